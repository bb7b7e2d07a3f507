"""`taximeter keys`: the keys that name their owner. A key is shown once; the store keeps its digest."""

import argparse
import json

from proxy.cli.options import add_config_arguments, add_json_argument, read_config
from proxy.config.budgets import owner_problem
from proxy.config.sources import toml
from proxy.errors import UsageError

HELP = """\
Taximeter keys. An application that comes with one is counted under its owner and calls the upstream with the key
that serve has (upstream_key_env). Other keys pass through to the upstream untouched."""
EXAMPLE = """\
examples:
  taximeter keys create --owner acme        # prints the key, alone, and never again
  taximeter keys list
  taximeter keys revoke 1a2b3c4d5e6f        # an id of the list, or the key itself"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it", allow_abbrev=False)
    create.add_argument("--owner", required=True, help="who pays: 1 to 63 characters of a-z, 0-9, dot, _ and -")
    listed = actions.add_parser("list", help="ids and owners of all keys", allow_abbrev=False)
    add_json_argument(listed)
    revoke = actions.add_parser("revoke", help="take a key back, at once", allow_abbrev=False)
    revoke.add_argument("id", metavar="ID", help="its id, as `keys list` shows it, or the key itself")
    for action in (create, listed, revoke):
        add_config_arguments(action)


def run(args: argparse.Namespace) -> int:
    actions = {"create": _create, "list": _list, "revoke": _revoke}
    return actions[args.action](args)


def _create(args: argparse.Namespace) -> int:
    problem = owner_problem(args.owner)
    if problem:
        raise UsageError(f"--owner {toml(args.owner)}: {problem}")
    config = read_config(args)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis

    print(with_store(config, lambda store: store.create_key(args.owner)))
    return 0


def _list(args: argparse.Namespace) -> int:
    config = read_config(args)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis
    from proxy.reports.budget_use import rfc3339  # noqa: PLC0415

    keys = with_store(config, lambda store: store.list_keys())
    rows = [(key.id, key.owner, rfc3339(key.created)) for key in keys]
    if args.json:
        print(json.dumps({"keys": [dict(zip(("id", "owner", "created"), row, strict=True)) for row in rows]}, indent=2))
        return 0
    from proxy.reports.render import show  # noqa: PLC0415 - imports rich
    from proxy.reports.sheet import Column, Sheet  # noqa: PLC0415

    if rows:
        show(Sheet([Column("id", whole=True), Column("owner"), Column("created", whole=True)], rows))
    else:
        print("There are no keys. Make one: taximeter keys create --owner OWNER")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    config = read_config(args)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis

    key = with_store(config, lambda store: store.revoke_key(args.id))
    print(f"revoked {key.id} of {key.owner}")
    return 0
