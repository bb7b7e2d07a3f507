"""`taximeter keys`: the keys that name their owner. A key is shown once; the store keeps its digest."""

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.cli.durations import coming_moment
from proxy.cli.options import add_config_arguments, add_json_argument, read_config
from proxy.config.budgets import owner_problem
from proxy.config.sources import toml
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.store import CallerKey

HELP = """\
Taximeter keys. An application that comes with one is counted under its owner and calls the upstream with the key
that serve has (upstream_key_env or upstream_key_file). Other keys pass through to the upstream untouched.
A key may expire, and may be limited to models: globs with * and ?, one of which must fit the model asked for."""
EXAMPLE = """\
examples:
  taximeter keys create --owner acme        # prints the key, alone, and never again
  taximeter keys create --owner acme --expires 30d --model 'ft:gpt-4o-mini*' gpt-4o-mini
  taximeter keys list
  taximeter keys revoke 1a2b3c4d5e6f        # an id of the list, or the key itself"""
LONGEST_GLOB = 200  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it", allow_abbrev=False)
    create.add_argument("--owner", required=True, help="who pays: 1 to 63 characters of a-z, 0-9, dot, _ and -")
    create.add_argument("--expires", metavar="WHEN", help="a duration (90m, 12h, 30d, 2w), a date or a time")
    create.add_argument(
        "--model",
        metavar="GLOB",
        nargs="+",
        action="extend",
        default=[],
        help="the models it is good for (default: all)",
    )
    listed = actions.add_parser("list", help="ids and owners of all keys", allow_abbrev=False)
    add_json_argument(listed)
    revoke = actions.add_parser("revoke", help="take a key back: it stops within 5 seconds", allow_abbrev=False)
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
    expires = None if args.expires is None else coming_moment("--expires", args.expires, datetime.now(UTC))
    for glob in args.model:
        if not glob.isprintable() or not 0 < len(glob) <= LONGEST_GLOB:
            raise UsageError(f"--model {toml(glob)}: a glob has 1 to {LONGEST_GLOB} characters, none of them invisible")
    config = read_config(args)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis

    models = tuple(dict.fromkeys(args.model))
    print(with_store(config, lambda store: store.create_key(args.owner, expires=expires, models=models)))
    return 0


def _list(args: argparse.Namespace) -> int:
    config = read_config(args)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis

    keys = with_store(config, lambda store: store.list_keys())
    now = datetime.now(UTC)
    if args.json:
        print(json.dumps({"keys": [_as_json(key, now) for key in keys]}, indent=2))
        return 0
    from proxy.reports.budget_use import rfc3339  # noqa: PLC0415
    from proxy.reports.render import show  # noqa: PLC0415 - imports rich
    from proxy.reports.sheet import Column, Sheet  # noqa: PLC0415

    if not keys:
        print("There are no keys. Make one: taximeter keys create --owner OWNER")
        return 0
    columns = [
        Column("id", whole=True),
        Column("owner"),
        Column("created", whole=True),
        Column("expires"),
        Column("models"),
    ]
    rows = [
        (key.id, key.owner, rfc3339(key.created), _expiry(key, now), ", ".join(key.models) or "all") for key in keys
    ]
    show(Sheet(columns, rows))
    return 0


def _revoke(args: argparse.Namespace) -> int:
    config = read_config(args)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis

    key = with_store(config, lambda store: store.revoke_key(args.id))
    print(f"revoked {key.id} of {key.owner}")
    return 0


def _expiry(key: "CallerKey", now: datetime) -> str:
    from proxy.reports.budget_use import rfc3339  # noqa: PLC0415

    if key.expires is None:
        return "never"
    return f"{rfc3339(key.expires)} (expired)" if key.is_expired(now) else rfc3339(key.expires)


def _as_json(key: "CallerKey", now: datetime) -> dict[str, object]:
    from proxy.reports.budget_use import rfc3339  # noqa: PLC0415

    return {
        "id": key.id,
        "owner": key.owner,
        "created": rfc3339(key.created),
        "expires": None if key.expires is None else rfc3339(key.expires),
        "expired": key.is_expired(now),
        "models": list(key.models),
    }
