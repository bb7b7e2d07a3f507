"""Upstream and store addresses. Invariant: no complaint shows what stands before an `@`, or a password option."""

import re
from urllib.parse import urlsplit

from proxy.config.records import without_password
from proxy.config.sources import Setting, did_you_mean, toml
from proxy.config.values import text

STORE_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_VENDORS = {  # hosts of OpenAI-compatible APIs → the provider of rates/cards/imported
    "api.anthropic.com": "anthropic",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "inference.baseten.co": "baseten",
    "api.cerebras.ai": "cerebras",
    "api.cloudflare.com": "cloudflare",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "cloud.databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "generativelanguage.googleapis.com": "google",
    "api.groq.com": "groq",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.novita.ai": "novita",
    "openrouter.ai": "openrouter",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
}
_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+(%25[\w.-]+)?\]")
_PORT_REASON = "the port must be a number from 1 to 65535"
_ENCODE = "a `/`, `?`, `#` or `@` inside a password must be percent-encoded"


def upstream(setting: Setting) -> str:
    """The base URL requests are forwarded below, without a trailing slash: what follows `/v1/` is appended to it.

    With no path, `/v1` is added; any other path stands for our `/v1`.
    """
    value = text(setting)
    shown = toml(without_password(value))
    scheme, separator, _ = value.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise setting.wrong('must be a URL that starts with "https://" or "http://"', shown=shown)
    try:
        parts = urlsplit(value)
    except ValueError:
        raise setting.wrong("is no URL", shown=shown) from None
    if "@" in parts.netloc:
        reason = "must hold no user name and no password; the key comes from the variable that upstream_key_env names"
        raise setting.wrong(reason, shown=shown)
    if "?" in value or "#" in value:
        raise setting.wrong("must hold no query and no fragment; only scheme, host, port and path", shown=shown)
    problem = _host_problem(parts.netloc)
    if problem:
        raise setting.wrong(problem, shown=shown)
    if not re.fullmatch(r"[A-Za-z0-9/_.~!$&'()*+,;=:@%-]*", parts.path):
        raise setting.wrong("the path holds a character that a URL cannot hold", shown=shown)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def provider_of(upstream_url: str) -> str:
    """Whose rate cards hold when nobody said: the vendor that the host's name tells, else openai."""
    host = _host(upstream_url)
    if host.endswith(_AZURE_HOSTS):
        return "azure"
    return next((provider for known, provider in _VENDORS.items() if f".{host}".endswith(f".{known}")), "openai")


def has_data_residency(upstream_url: str) -> bool:
    """Is this one of OpenAI's endpoints of a region, such as eu.api.openai.com?"""
    return re.fullmatch(r"[a-z]{2}\.api\.openai\.com", _host(upstream_url)) is not None


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")


def store_url(setting: Setting) -> str:
    """A URL of one of the store's schemes, with hosts and ports that can be. What a scheme means, the store knows."""
    value = text(setting)
    shown = toml(without_password(value))
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in STORE_SCHEMES:
        listed = ", ".join(f"{known}://" for known in STORE_SCHEMES)
        hint = did_you_mean(scheme, STORE_SCHEMES) if separator else ""
        raise setting.wrong(f"must start with one of {listed}{hint}", shown=shown)
    if "#" in rest:
        raise setting.wrong(f"must hold no fragment; {_ENCODE}", shown=shown)
    place, _, _ = rest.partition("?")
    if scheme == "unix":
        if not place.rpartition("@")[2].startswith("/"):
            raise setting.wrong('the socket needs an absolute path: write "unix:///run/…"', shown=shown)
        return value
    hosts, _, tail = place.partition("/")
    if "@" in tail:  # the user information was cut in two by a raw slash
        raise setting.wrong(_ENCODE, shown=shown)
    names = hosts.rpartition("@")[2].split(",")
    if len(names) > 1 and "+" not in scheme:
        raise setting.wrong("several hosts need redis+sentinel:// or redis+cluster://", shown=shown)
    for name in names:
        problem = _host_problem(name)
        if problem:
            raise setting.wrong(f"{problem}; {_ENCODE}", shown=shown)
    if "+" not in scheme and not re.fullmatch(r"[0-9]{0,4}", tail):
        raise setting.wrong("what follows the host must be the number of a database, such as /0", shown=shown)
    return value


def _host_problem(netloc: str) -> str | None:
    """Why `host` or `host:port` cannot be, without repeating it: it may hold half of a password."""
    host, port = netloc, None
    if ":" in netloc and not netloc.endswith("]"):
        host, _, port = netloc.rpartition(":")
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
        return _PORT_REASON
    if not host:
        return "the host is missing"
    return None if _HOST.fullmatch(host) else "the host is no name and no address"
