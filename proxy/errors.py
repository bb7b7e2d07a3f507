"""The exception tree. Foreign errors (redis, aiohttp, OS) are mapped at the room that owns the socket.

TaximeterError                what every command shows as one line on stderr
├── UsageError                exit 2: an argument, a port that is taken, a data directory in use
│   └── ConfigError           exit 2: names the file or variable, the key, the reason and the mend
├── StoreError
│   ├── StoreAway             no answer in time, or an answer that means "not now" (LOADING, READONLY, OOM, …)
│   │   └── StoreWiped        it answers, but what was spent is not in it any more
│   └── StoreRefused          the store answers, but cannot be used (wrong eviction policy, too old, wrong password)
├── JournalFailed             503: the journal cannot be written (disk full, I/O error); nothing is forwarded
├── UpstreamError
│   ├── UpstreamUnreachable   502: the connection could not be made, or broke before a status came
│   └── UpstreamTooSlow       504
└── (rates.errors.RatesError stands apart: rates knows nothing of proxy)
"""


class TaximeterError(Exception):
    """Root of what taximeter raises. The message is one clear line: the thing, the reason, the mend."""


class UsageError(TaximeterError):
    """Something the caller of a command can mend. Exit code 2."""


class ConfigError(UsageError):
    """A configuration value that is wrong."""


class StoreError(TaximeterError):
    """Something about the store."""


class StoreAway(StoreError):  # noqa: N818 - a state, not a fault
    """The store does not answer, or says that it cannot take writes now. Try again later."""


class StoreWiped(StoreAway):
    """The store has lost what was spent, or is another one. Until that is acknowledged no budget can be checked."""


class StoreRefused(StoreError):  # noqa: N818
    """The store answers and will go on refusing: wrong password, eviction policy, version."""


class JournalFailed(TaximeterError):  # noqa: N818
    """The journal cannot be written, or not read: the disk is full, or broken."""


class UpstreamError(TaximeterError):
    """Something about the upstream. `sent` is True when a byte of the request may have reached it."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class UpstreamUnreachable(UpstreamError):  # noqa: N818
    """502."""


class UpstreamTooSlow(UpstreamError):  # noqa: N818
    """504."""
