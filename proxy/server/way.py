"""Can the upstream be reached as it is configured? Said before a worker is started."""

from proxy.config import Config
from proxy.config.environment import process_environ


def check_way(config: Config) -> None:
    """Raise UsageError for certificates or a proxy that no worker could use."""
    environ = process_environ()
    proxies = any(environ.get(name) for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"))
    if config.upstream_ca_file is None and not proxies:
        return
    # Most installations name neither, and should start without reading what dials.
    from proxy.upstream.route import route_to  # noqa: PLC0415
    from proxy.upstream.tls import context_for  # noqa: PLC0415

    if route_to(config.upstream, environ).tls and config.upstream_ca_file is not None:
        context_for(config.upstream_ca_file)
