"""Compiles the modules that `proxy/compiled.py` lists, with mypyc and the C compiler at hand.

`python compiling.py` puts the extension modules beside their sources (`make .venv/compiled`); `hatch_build.py` puts
them into a wheel. Where it cannot be done there is one line that says why, and plain Python runs.
"""

import contextlib
import importlib
import io
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
LISTED = runpy.run_path(str(ROOT / "proxy" / "compiled.py"))
MODULES: tuple[str, ...] = LISTED["MODULES"]
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
LIBRARY = LISTED["LIBRARY"] + SUFFIX
BUILD = Path("build", "compiled" + SUFFIX.removesuffix(".so"))

# The imported modules are read for their types alone: their faults, and libraries that are not installed, stop nothing.
MYPY = ("--config-file=", "--explicit-package-bases", "--follow-imports=silent", "--ignore-missing-imports")
# -O2 takes a third longer, and brought nothing that could be measured (tests.bench.lane.parts).
OPTIMIZED, FLAGS = "1", ["-g0", "-Wno-error"]


class CannotCompile(Exception):  # noqa: N818 - no mistake: plain Python runs
    """Why not, in one line."""


def check() -> None:
    """Whether there is what it takes."""
    if os.environ.get("TAXIMETER_PURE") == "1":
        raise CannotCompile("TAXIMETER_PURE=1")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "")
    if not compiler or shutil.which(compiler[0]) is None:
        raise CannotCompile(f"no C compiler ({compiler[0] if compiler else 'cc'})")
    headers = sysconfig.get_config_var("INCLUDEPY")
    if not Path(headers, "Python.h").exists():
        raise CannotCompile(f"no Python.h in {headers}")


def build() -> dict[str, Path]:
    """Where each extension module is that was built, by its place beside the sources."""
    check()
    try:
        with contextlib.chdir(ROOT):
            extensions = _translated()
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return _built(extensions, pool)
    except CannotCompile:
        raise
    except ImportError as error:
        raise CannotCompile(f"mypyc does not run: {error}") from error
    except Exception as error:  # an install must not fail for want of speed
        raise CannotCompile(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def _translated() -> list[Any]:
    """The C files, as extensions of setuptools."""
    importlib.import_module("setuptools")  # before mypyc, which takes what is there
    from mypyc.build import mypycify  # noqa: PLC0415 - only where it is compiled

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            return mypycify(
                [*MYPY, *MODULES],
                opt_level=OPTIMIZED,
                debug_level="0",
                multi_file=True,
                target_dir=str(BUILD),
                group_name=LISTED["LIBRARY"].removesuffix("__mypyc"),
            )
    except SystemExit:
        errors = [line for line in said.getvalue().splitlines() if ": error:" in line]
        raise CannotCompile(f"mypyc: {errors[0] if errors else 'it ended without a word'}") from None


def _built(extensions: list[Any], pool: ThreadPoolExecutor) -> dict[str, Path]:
    headers = {
        header for extension in extensions for each in extension.include_dirs for header in Path(each).glob("*.h")
    }
    newest = max(each.stat().st_mtime_ns for each in (*headers, Path(__file__)))
    files = [(Path(source), extension) for extension in extensions for source in extension.sources]
    files.sort(key=lambda file: -file[0].stat().st_size)  # the long ones first, so that no processor waits at the end
    list(pool.map(lambda file: _compile(file[0], file[1], newest), files))
    return dict(pool.map(_link, extensions))


def _compiler() -> Any:
    from distutils import ccompiler, sysconfig  # noqa: PLC0415 - setuptools', once it is imported

    compiler = ccompiler.new_compiler()
    sysconfig.customize_compiler(compiler)
    return compiler


def _compile(source: Path, extension: Any, newest: int) -> None:
    made = source.with_suffix(".o")
    if made.exists() and made.stat().st_mtime_ns > max(newest, source.stat().st_mtime_ns):
        return
    # A compiler of its own: one is not for several threads.
    _compiler().compile(
        [str(source)],
        include_dirs=[*extension.include_dirs, sysconfig.get_config_var("INCLUDEPY")],
        extra_postargs=[*extension.extra_compile_args, *FLAGS],
    )


def _link(extension: Any) -> tuple[str, Path]:
    place = extension.name.replace(".", "/") + SUFFIX
    linked = BUILD / "linked" / place
    linked.parent.mkdir(parents=True, exist_ok=True)
    _compiler().link_shared_object([str(Path(each).with_suffix(".o")) for each in extension.sources], str(linked))
    return place, ROOT / linked


def beside_the_sources(built: dict[str, Path], began: float) -> None:
    """A program that runs keeps the files that it has; one that starts meanwhile finds no library, and is plain."""
    clean()
    for place in sorted(built, key=lambda place: place == LIBRARY):
        shutil.copyfile(built[place], ROOT / (place + ".new"))
        os.utime(ROOT / (place + ".new"), (began, began))  # older than what was edited meanwhile
        (ROOT / (place + ".new")).rename(ROOT / place)


def clean() -> None:
    (ROOT / LIBRARY).unlink(missing_ok=True)
    for folder in ("proxy", "rates"):
        for each in (ROOT / folder).rglob("*" + SUFFIX):
            each.unlink()


def _with_mypyc() -> None:
    """Installs what a wheel is built with."""
    if subprocess.run(
        [sys.executable, "-c", "import mypyc.build, setuptools"], check=False, capture_output=True
    ).returncode:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        wanted = [each for each in project["build-system"]["requires"] if not each.startswith("hatchling")]
        done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=False)  # noqa: S603
        if done.returncode:
            raise CannotCompile("pip cannot install mypyc")


def main() -> int:
    """Ends with 0 when it has done what it can, 1 when there is not what it takes."""
    began = time.time()
    try:
        check()
    except CannotCompile as reason:
        clean()
        print(f"taximeter runs as plain Python: {reason}")
        return 1
    print(f"compiling {len(MODULES)} modules, up to a minute (TAXIMETER_PURE=1: plain Python)", flush=True)
    try:
        _with_mypyc()
        beside_the_sources(build(), began)
    except CannotCompile as reason:
        clean()
        print(f"taximeter runs as plain Python: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
