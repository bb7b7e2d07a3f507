"""`taximeter serve`: the proxy, in the foreground."""

import argparse
import signal
from contextlib import ExitStack, closing
from types import FrameType

from proxy.cli.options import add_config_arguments, read_config
from proxy.config import Config
from proxy.data_dir import DataDir
from proxy.server.logs import log_to_stderr
from proxy.server.sockets import bind
from proxy.server.workers import Workers

HELP = "forward, meter and budget requests until Ctrl-C"
EXAMPLE = """\
example:
  taximeter serve --upstream https://api.openai.com/v1
  export OPENAI_BASE_URL=http://127.0.0.1:4100/v1   # in the application's environment
"""

_FLAGS = {
    "listen": "HOST:PORT for clients (default 127.0.0.1:4100)",
    "ops_listen": "HOST:PORT for /metrics, /healthz and /readyz (default 127.0.0.1:4110)",
    "upstream": "base URL to forward to (default https://api.openai.com/v1)",
    "workers": "worker processes (default 1)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    for name, text in _FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=text)


def run(args: argparse.Namespace) -> int:
    # Until the supervisor listens to signals: one that ends the start still lets go of what was opened.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    config = read_config(args, with_upstream_key=True)
    log_to_stderr()
    with ExitStack() as opened:
        opened.enter_context(DataDir(config.data_dir).claim())
        listener = opened.enter_context(bind(config.listen, "--listen"))
        ops_listener = opened.enter_context(bind(config.ops_listen, "--ops-listen"))
        metrics_dir = config.data_dir / "metrics"
        workers = opened.enter_context(closing(Workers(config.workers, listener, metrics_dir)))
        # Imports take most of the start, so they come late: here beside those of the workers that have just begun.
        from proxy.store import EmbeddedStore  # noqa: PLC0415

        embedded = None if config.redis_url else opened.enter_context(closing(EmbeddedStore(config.data_dir)))
        if embedded:
            embedded.begin()
        import uvloop  # noqa: PLC0415

        from proxy.server.supervisor import Supervisor  # noqa: PLC0415

        store_url = embedded.open() if embedded else config.redis_url or ""
        base = f"http://{_reachable(listener.getsockname())}/v1"
        ops = f"http://{_reachable(ops_listener.getsockname())}/metrics"
        supervisor = Supervisor(
            config,
            store_url,
            workers,
            ops_listener,
            metrics_dir=metrics_dir,
            reload=lambda: read_config(args, with_upstream_key=True),
            on_ready=lambda: _greet(config, base, ops),
            revive_store=embedded.revive if embedded else None,
        )
        uvloop.run(supervisor.run())
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _reachable(address: tuple[str, int]) -> str:
    """How a client on this machine names the socket."""
    host, port = address[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _greet(config: Config, base: str, ops: str) -> None:
    store = config.redis_url_shown or f"embedded, kept in {config.data_dir}"
    print(
        f"taximeter listens on   {base}\n"
        f"          forwards to  {config.upstream}\n"
        f"          shows        {ops}\n"
        f"          store        {store}\n"
        f"          budgets      {len(config.budgets)}\n"
        "put this into your application's environment:\n"
        f"  export OPENAI_BASE_URL={base}\n",
        end="",
        flush=True,
    )
