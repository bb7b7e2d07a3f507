"""Text out of JSON that is cut off: the strings of named members, the last of which may lack its end."""

import json
import re
from collections.abc import Callable, Iterator

_WHOLE_ESCAPES = re.compile(rb"(?:[^\\]++|\\u[0-9A-Fa-f]{4}|\\[^u])*+", re.DOTALL)


def strings_of(*names: str) -> Callable[[bytes], Iterator[str]]:
    """A function that finds the members of these names, wherever they stand."""
    part = re.compile(
        rb'"(?:%b)"[ \t\n\r]*+:[ \t\n\r]*+"([^"\\]*+(?:\\.[^"\\]*+)*+)' % "|".join(names).encode(), re.DOTALL
    )

    def strings(data: bytes) -> Iterator[str]:
        for found in part.finditer(data):
            written = _WHOLE_ESCAPES.match(found.group(1))
            text = b'"' + (written.group() if written else b"") + b'"'
            try:
                yield str(json.loads(text.decode(errors="replace"), strict=False)).encode(errors="replace").decode()
            except ValueError:
                yield found.group(1).decode(errors="replace")

    return strings
