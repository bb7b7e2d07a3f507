"""`taximeter COMMAND`: find the command, run it, and turn whatever happens into an exit code and one line at most."""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from proxy import FORM
from proxy.errors import TaximeterError, UsageError
from rates.errors import CatalogueError, RatesError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

COMMANDS = {
    "serve": "run the proxy",
    "demo": "see it all work: no key, no network, under 20 seconds",
    "price": "what a request of a model costs",
    "report": "cost and tokens by model, owner, day, fine-tuned or base",
    "budgets": "each budget: used, held, limit, when it resets",
    "keys": "create, list and revoke taximeter keys",
    "ledger": "entries: tail, show, export, verify, reprice, audit",
    "rates": "the rate cards: list, show, check your own file, what changed, sources",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
PIPE_CLOSED = 141  # 128 + SIGPIPE
EXAMPLE = """\
examples:
  taximeter demo
  taximeter serve
  taximeter price ft:gpt-4o-mini-2024-07-18:acme::abc123 --prompt-tokens 1000 --completion-tokens 500
  taximeter report --by model,owner --since 2026-11-01

`taximeter COMMAND --help` tells more about each."""


class Command(Protocol):
    """The shape of a command's module."""

    HELP: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, args: argparse.Namespace) -> int: ...


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """As argparse has it, but a full disk or a closed pipe is not passed over in silence."""
        if message:
            (file or sys.stderr).write(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never lets a foreseeable error out."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a model's name may hold letters that the terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(words)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    except (TaximeterError, RatesError) as error:
        _complain(str(error))
        return 2 if isinstance(error, UsageError | CatalogueError) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return PIPE_CLOSED
    except OSError as error:
        _forget_stdout()
        _complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return 1
    return code


def _run(words: list[str]) -> int:
    if words and words[0] in COMMANDS:
        return _run_command(words[0], words[1:])
    parser = Parser(
        prog="taximeter",
        description="An OpenAI-compatible proxy that meters, prices and budgets every request.",
        epilog=_listed() + "\n\n" + EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"taximeter {_version()}, {FORM}")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="one of the commands below")
    try:
        args, _ = parser.parse_known_args(words)
    except SystemExit as end:  # --help, --version, a wrong argument: argparse has said all
        return end.code if isinstance(end.code, int) else 2
    if args.command is None:
        if words:
            raise UsageError(f"unknown option {words[0]} (see taximeter --help)")
        parser.print_help(sys.stderr)
        return 2
    raise UsageError(_unknown_command(args.command))


def _run_command(name: str, words: list[str]) -> int:
    try:
        command = cast("Command", importlib.import_module(f"proxy.cli.{name}"))
    except ModuleNotFoundError as error:
        raise TaximeterError(f"{name}: the module {error.name} is missing from this installation") from None
    parser = Parser(
        prog=f"taximeter {name}",
        description=command.HELP,
        epilog=command.EXAMPLE if command.EXAMPLE.startswith("example") else f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    try:
        args = parser.parse_args(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    return command.run(args)


def _unknown_command(word: str) -> str:
    from proxy.config.sources import did_you_mean, toml  # noqa: PLC0415 - only a mistake needs it

    hint = did_you_mean(word, COMMANDS) or f"; there is {', '.join(COMMANDS)}"
    return f"unknown command {toml(word)}{hint} (see taximeter --help)"


def _listed() -> str:
    width = max(map(len, COMMANDS))
    return "commands:\n" + "\n".join(f"  {name:{width}}  {line}" for name, line in COMMANDS.items())


def _version() -> str:
    try:
        return version("taximeter")
    except PackageNotFoundError:
        return "(not installed)"


def _complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    with contextlib.suppress(OSError):
        print("taximeter: " + " ".join(message.split()), file=sys.stderr)


def _forget_stdout() -> None:
    """Nobody reads stdout any more: keep the interpreter's last flush from failing as well."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
