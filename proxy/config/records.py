"""What a configuration is, once it was read: frozen records, plain data, safe to pickle for the workers.

Invariant: no repr of anything here shows a key or a password.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

PeriodName = Literal["day", "week", "month", "total"]
ALERT_AT = (Decimal("0.8"), Decimal(1))
"""The default thresholds of a budget: 80% and 100%."""

_CREDENTIALS = re.compile(r"://.*@", re.DOTALL)
_PASSWORD_OPTION = re.compile(r"([?&][^=&]*(?:password|username)=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket listens. `host` has no brackets; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`127.0.0.1:4100`, `[::1]:4100`, `:4100` (every IPv4 interface). Raises ValueError with the reason."""
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError('a port is missing: write "HOST:PORT"')
        if not (port.isascii() and port.isdigit() and int(port[:9]) <= 65535 and len(port) <= 5):
            raise ValueError("the port must be a number from 0 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if not re.fullmatch(r"[0-9A-Fa-f:.]+(%[\w.-]+)?", host) or ":" not in host:
                raise ValueError("what stands in brackets is no IPv6 address")
        elif ":" in host:
            raise ValueError('an IPv6 address needs brackets: write "[::1]:4100"')
        elif host and not re.fullmatch(r"[A-Za-z0-9_.-]+", host):
            raise ValueError("that is no host name and no address")
        return cls(host or "0.0.0.0", int(port))  # noqa: S104 - asked for in so many words: ":4100"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Secret:
    """A text that shows itself only to who calls `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


def without_password(url: str) -> str:
    """The URL as it may be shown: credentials and password options are starred out, even in a malformed one."""
    return _PASSWORD_OPTION.sub(r"\1***", _CREDENTIALS.sub("://***@", url))


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetConfig:
    """One `[[budget]]`, checked. `limit_nanos` is the exact limit; the grammar of each field is in `budgets.py`."""

    name: str
    limit_nanos: int
    period: PeriodName
    timezone: str = "UTC"
    owner: str | None = None
    model: str | None = None
    fine_tuned: bool | None = None
    per: Literal["owner"] | None = None
    alert_at: tuple[Decimal, ...] = ALERT_AT
    on_exceed: Literal["refuse", "alert"] = "refuse"
    on_store_loss: Literal["allow", "refuse"] = "allow"
    backfill: bool = False
    """What the ledger knows of the running period counts, from before the budget was there too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    """One `[[notify]]`, checked: who is told of thresholds. `secret` signs what is told."""

    url: Secret
    format: Literal["generic", "slack"] = "generic"
    budgets: tuple[str, ...] = ("*",)
    """Globs on the names of budgets."""
    secret_env: str | None = None
    secret: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that was configured, with defaults filled in. Paths are absolute; URLs have no trailing slash."""

    listen: Address = Address("127.0.0.1", 4100)
    ops_listen: Address = Address("127.0.0.1", 4110)
    redis_url: str | None = field(default=None, repr=False)  # may hold a password: show `redis_url_shown`
    upstream: str = "https://api.openai.com/v1"
    upstream_key: Secret | None = None
    upstream_key_env: str = "OPENAI_API_KEY"
    upstream_ca_file: Path | None = None  # certificates in PEM form, trusted beside the system's
    provider: str = "openai"
    data_residency: bool = False  # the upstream is one of OpenAI's endpoints that cost more
    require_key: bool = False
    rate_files: tuple[Path, ...] = ()
    unpriced: Literal["allow", "refuse"] = "allow"
    default_output_tokens: int = 4096
    budgets: tuple[BudgetConfig, ...] = ()
    notify: tuple[NotifyConfig, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)  # a plain dict: a mapping proxy cannot be pickled
    baseline: Mapping[str, str] = field(default_factory=dict)
    data_dir: Path
    workers: int = 1
    drain_seconds: float = 30
    store_timeout_ms: int = 500
    connect_timeout_seconds: float = 10
    upstream_timeout_seconds: float = 600  # of silence, not of the whole reply
    max_open_requests_per_owner: int = 2_000  # of one owner, in one worker
    max_request_seconds: float = 3_600  # of a metered request, from its head to its last byte
    max_body_bytes: int = 104_857_600
    ledger_days: int = 90  # older lines of the ledger are folded into checkpoint sums
    ledger_max_entries: int = 1_000_000  # lines: some 700 bytes each in the store
    source: Path | None = None  # the file it was read from
    warnings: tuple[str, ...] = ()  # what is no mistake, and yet should be changed

    @property
    def redis_url_shown(self) -> str | None:
        return None if self.redis_url is None else without_password(self.redis_url)
