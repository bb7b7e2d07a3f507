"""The commands. `main` finds the one that was asked for and imports that module only: `--help` and `price` stay light.

A command is a module `proxy/cli/NAME.py`, listed in `main.COMMANDS` with its one line for `taximeter --help`. It has

    HELP: str                               what the command does: a sentence or two, shown above the arguments
    EXAMPLE: str                            one or more command lines that work, shown below them
    def add_arguments(parser: argparse.ArgumentParser) -> None
    def run(args: argparse.Namespace) -> int    0 fine, 1 a finding; usage errors are raised as UsageError

Rules: data goes to stdout and nothing else does; `--json` where data is printed; what went wrong is raised as
TaximeterError or RatesError and becomes one line `taximeter: …` on stderr, with exit code 2 for UsageError
and CatalogueError (arguments, ports, configuration, rate files) and 1 for the rest. Heavy imports (aiohttp, redis,
rich) stand in `run` or in the modules it calls, or at the module's top when the command cannot do without.
Commands that read the configuration take its flags from `options.add_config_arguments` and read it with
`options.read_config`; those that read the store do it in `reading.with_store`.
"""
