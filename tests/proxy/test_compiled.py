"""Compiled or plain Python: what was edited is what runs, and where nothing can be compiled one line says why."""

import os
import re
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from proxy.compiled import LIBRARY, MODULES

ROOT = Path(__file__).parents[2]
SUFFIX = EXTENSION_SUFFIXES[0]
ASK = "import os, proxy.admission; print(proxy.admission.WHAT, os.environ.get('TAXIMETER_PURE'))"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The choice, over sources that only say what they are, and extension modules that nobody can load."""
    for module in MODULES:
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).write_text("WHAT = 'the source'\n")
    for name in ("proxy/__init__.py", "proxy/compiled.py", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "proxy" / f"admission{SUFFIX}").touch()
    (tmp_path / (LIBRARY + SUFFIX)).touch()
    return tmp_path


def asked(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name != "TAXIMETER_PURE"}
    return subprocess.run(
        [sys.executable, "-c", ASK], cwd=checkout, env=known | environment, capture_output=True, text=True
    )


def is_compiled(done: subprocess.CompletedProcess[str]) -> bool:
    return f"admission{SUFFIX}" in done.stderr and "ImportError" in done.stderr


def test_what_is_compiled_runs(checkout: Path) -> None:
    assert is_compiled(asked(checkout))


def test_plain_python_when_asked_for(checkout: Path) -> None:
    done = asked(checkout, TAXIMETER_PURE="1")
    assert (done.stdout, done.stderr) == ("the source 1\n", "")


@pytest.mark.parametrize("edited", ["proxy/http1/heads.py", "rates/money.py", "proxy/compiled.py"])
def test_an_edited_source_runs_as_it_stands(checkout: Path, edited: str) -> None:
    later = (checkout / (LIBRARY + SUFFIX)).stat().st_mtime_ns + 1
    os.utime(checkout / edited, ns=(later, later))
    done = asked(checkout)
    assert done.stdout == "the source 1\n"  # and so do the processes that it starts
    assert done.stderr == f"taximeter: {edited} is newer than its compiled form: plain Python runs\n"


def test_half_a_build_is_none(checkout: Path) -> None:
    (checkout / (LIBRARY + SUFFIX)).unlink()
    done = asked(checkout)
    assert (done.stdout, done.stderr) == ("the source None\n", "")


def test_the_times_of_installed_files_say_nothing(checkout: Path) -> None:
    (checkout / "pyproject.toml").unlink()
    os.utime(checkout / (LIBRARY + SUFFIX), (0, 0))
    assert is_compiled(asked(checkout))


def test_no_compiled_module_defines_a_struct() -> None:
    """Mypyc drops the types of a Struct's members, and what it was made with (frozen, array_like, …)."""
    everywhere = [path for folder in ("proxy", "rates") for path in (ROOT / folder).rglob("*.py")]
    defining = {
        str(path.relative_to(ROOT)) for path in everywhere if re.search(r"class \w+\(msgspec\.Struct", path.read_text())
    }
    assert "proxy/metering/records.py" in defining
    assert defining.isdisjoint(MODULES)


# --- building ---


def small(directory: Path, *, faulty: bool = False) -> Path:
    """A checkout with one module to compile."""
    (directory / "proxy").mkdir()
    (directory / "rates").mkdir()
    listed = re.sub(
        r"(?<=MODULES = \(\n).*?(?=\n\))",
        '    "rates/sum.py",',
        (ROOT / "proxy/compiled.py").read_text(),
        flags=re.DOTALL,
    )
    (directory / "proxy" / "compiled.py").write_text(listed)
    shutil.copyfile(ROOT / "proxy/__init__.py", directory / "proxy/__init__.py")
    for name in ("compiling.py", "pyproject.toml"):
        shutil.copyfile(ROOT / name, directory / name)
    (directory / "rates" / "__init__.py").touch()
    text = "def added(one: int, other: int) -> int:\n    return one + other\n"
    (directory / "rates" / "sum.py").write_text(text.replace("one +", "'' +") if faulty else text)
    return directory


def compiling(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name not in ("TAXIMETER_PURE", "CC")}
    return subprocess.run(
        [sys.executable, "compiling.py"], cwd=checkout, env=known | environment, capture_output=True, text=True
    )


def extension_modules(checkout: Path) -> set[str]:
    return {str(each.relative_to(checkout)) for each in checkout.rglob("*.so") if "build" not in each.parts}


def test_without_a_compiler_it_stays_plain_python(tmp_path: Path) -> None:
    checkout = small(tmp_path)
    (checkout / "rates" / f"sum{SUFFIX}").touch()
    done = compiling(checkout, PATH=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert re.fullmatch(r"taximeter runs as plain Python: no C compiler \(\S+\)\n", done.stdout)
    assert extension_modules(checkout) == set()


def test_plain_python_is_not_compiled_when_asked_for(tmp_path: Path) -> None:
    done = compiling(small(tmp_path), TAXIMETER_PURE="1")
    assert (done.returncode, done.stdout) == (1, "taximeter runs as plain Python: TAXIMETER_PURE=1\n")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_with_a_compiler_it_is_compiled_and_again_when_edited(tmp_path: Path) -> None:
    checkout = small(tmp_path)
    ask = [
        sys.executable,
        "-c",
        "import proxy, rates.sum; print(proxy.FORM, rates.sum.__file__[-3:], rates.sum.added(2, 3))",
    ]
    known = {name: value for name, value in os.environ.items() if name != "TAXIMETER_PURE"}

    def says() -> str:
        return subprocess.run(ask, cwd=checkout, env=known, check=True, stdout=subprocess.PIPE, text=True).stdout

    assert compiling(checkout).returncode == 0
    assert extension_modules(checkout) == {f"rates/sum{SUFFIX}", LIBRARY + SUFFIX}
    assert says() == "compiled .so 5\n"
    edited = (checkout / "rates/sum.py").read_text().replace("one +", "10 * one +")
    (checkout / "rates/sum.py").write_text(edited)
    assert says() == "plain Python .py 23\n"
    assert compiling(checkout).returncode == 0
    assert says() == "compiled .so 23\n"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_what_cannot_be_compiled_says_why_and_stays_plain_python(tmp_path: Path) -> None:
    done = compiling(small(tmp_path, faulty=True))
    assert done.returncode == 0  # there is no use in trying again before something changes
    assert "taximeter runs as plain Python: mypyc: rates/sum.py:2: error: Unsupported operand types" in done.stdout
    assert extension_modules(tmp_path) == set()
