"""How processes that serve speak to operators: one line an event, on stderr, times in UTC."""

import logging
import sys
import time

from aiohttp.http_exceptions import HttpProcessingError


class _Brief(logging.Filter):
    """A client that sends malformed HTTP gets its 400; it is no fault of ours, and must not fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def log_to_stderr() -> None:
    writer = logging.StreamHandler(sys.stderr)
    lines = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    lines.converter = time.gmtime
    writer.setFormatter(lines)
    root = logging.getLogger()
    writer.addFilter(_Brief())
    root.handlers[:] = [writer]
    root.setLevel(logging.WARNING)
    logging.getLogger("taximeter").setLevel(logging.INFO)
