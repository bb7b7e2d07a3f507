"""The frame of the command line: exit codes, one line for what went wrong, light imports."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from proxy.cli import main as frame
from proxy.cli.main import COMMANDS, main
from proxy.errors import ConfigError, StoreAway, UsageError
from rates.errors import CatalogueError, NotPriced

Run = Callable[[argparse.Namespace], int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Adds a command `fake` that runs a function."""

    def add(run: Run) -> None:
        module = ModuleType("proxy.cli.fake")
        module.__dict__.update(HELP="a fake", EXAMPLE="taximeter fake --n 1", run=run)
        module.__dict__["add_arguments"] = lambda parser: parser.add_argument("--n", type=int)
        monkeypatch.setitem(sys.modules, "proxy.cli.fake", module)
        monkeypatch.setattr(frame, "COMMANDS", {**COMMANDS, "fake": "a fake"})

    return add


def failing(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_command_decides_the_exit_code(command: Callable[[Run], None], code: int) -> None:
    command(lambda args: code)

    assert main(["fake", "--n", "3"]) == code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("port 4100 is taken"), 2, "taximeter: port 4100 is taken\n"),
        (ConfigError("x = 1: wrong"), 2, "taximeter: x = 1: wrong\n"),
        (CatalogueError("my.toml: wrong"), 2, "taximeter: my.toml: wrong\n"),
        (StoreAway("no answer from redis://h"), 1, "taximeter: no answer from redis://h\n"),
        (NotPriced("no card\nfor x"), 1, "taximeter: no card for x\n"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "taximeter: /x: No such file or directory\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_went_wrong_is_one_line(
    command: Callable[[Run], None], capfd: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    command(failing(error))

    assert main(["fake"]) == code
    assert capfd.readouterr() == ("", line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["reprot"], 'taximeter: unknown command "reprot"; did you mean "report"? (see taximeter --help)\n'),
        (["frobnicate"], 'taximeter: unknown command "frobnicate"; there is serve, demo, price, report, budgets, keys'),
        (["--frob"], "taximeter: unknown option --frob (see taximeter --help)\n"),
        (["fake", "--n", "x"], "taximeter fake: argument --n: invalid int value: 'x' (see taximeter fake --help)\n"),
        (["fake", "y"], "taximeter fake: unrecognized arguments: y (see taximeter fake --help)\n"),
        ([""], 'taximeter: unknown command ""'),
        (["\x1b[2J\n"], 'taximeter: unknown command "\\u001b[2J\\n"'),
        ([], "usage: taximeter"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    command(lambda args: 0)

    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert not words or err.count("\n") == 1


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()

    assert err == ""
    for name, line in COMMANDS.items():
        assert f"{name} " in out
        assert line in out


def test_help_of_a_command_has_an_example(command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda args: 0)

    assert main(["fake", "--help"]) == 0
    assert "example:\n  taximeter fake --n 1" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("taximeter ")


@pytest.mark.parametrize("words", [["--help"], ["report", "--help"], ["budgets", "--help"], ["keys", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys; from proxy.cli.main import main; main(sys.argv[1:]);"
        "print([m for m in ('aiohttp', 'redis', 'rich', 'uvloop', 'tiktoken') if m in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)

    assert done.stderr == "[]\n"
    assert done.stdout.startswith("usage: taximeter")
    assert "example" in done.stdout


def test_nobody_reads_the_output() -> None:
    read, write = os.pipe()
    os.close(read)

    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli.main", "report", "--by", "nothing"], stdout=write, stderr=subprocess.PIPE
    )
    helped = subprocess.run([sys.executable, "-m", "proxy.cli.main", "--help"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)

    assert done.returncode == 2
    assert (helped.returncode, helped.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux)")  # noqa: PTH110
def test_a_full_disk() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "proxy.cli.main", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )

    assert (done.returncode, done.stderr) == (1, "taximeter: No space left on device\n")
