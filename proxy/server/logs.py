"""How processes that serve speak to operators: one line an event, on stderr, times in UTC."""

import logging
import sys
import time


def log_to_stderr() -> None:
    writer = logging.StreamHandler(sys.stderr)
    lines = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    lines.converter = time.gmtime
    writer.setFormatter(lines)
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(logging.WARNING)
    logging.getLogger("taximeter").setLevel(logging.INFO)
