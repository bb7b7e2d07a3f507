"""Hiding usage that the client did not ask for: it sees the bytes that it would have seen without taximeter.

With `include_usage` a server adds two things to a stream: one more event, without choices and with the usage, and a
member `"usage": null` in each other event. Both go; every other byte stays.
"""

import re
from typing import Final

from proxy.metering.json_members import scan_object
from proxy.metering.sse import BOM, DataLine, comments_of, data_lines

_USAGE: Final = b"usage"
_COMPACT: Final = b',"usage":null'
_PADDING: Final = b',"obfuscation":"'
# `"usage":null` at the end of the JSON of a block of one line. Where the JSON is valid, an unescaped quote is a
# delimiter of a string; counted from the closing brace, these are a key's own. So this is a member of the outermost
# object and nothing inside a string. (`obfuscation` is what OpenAI pads its chunks with, after the usage.)
_LAST_MEMBER: Final = re.compile(
    rb'"usage"[ \t]*+:[ \t]*+null'
    rb'(?=(?:[ \t]*+,[ \t]*+"obfuscation"[ \t]*+:[ \t]*+"[^"\\]*+")?[ \t]*+\}(?:\n\n|\r\n\r\n)\Z)'
)


def without_event(block: bytes) -> bytes:
    """What remains of the extra event: its comments (and a byte order mark), which are not its own."""
    return (BOM if block.startswith(BOM) else b"") + comments_of(block)


def cut_last_member(block: bytes) -> bytes | None:
    """The block without its `"usage": null`, where that stands in the usual place and can be cut without a parse.

    The block's JSON is valid. None when it does not; a blank or a line end before the comma is for the scanner, too.
    """
    at = block.find(b'"usage"')
    if block.startswith(_COMPACT, at - 1) and block[at - 2] not in b" \t\n\r:":
        tail = block[at + 12 :]
        # As below: no quote but the last one in the padding, and none that is escaped.
        padded = tail.startswith(_PADDING) and tail.find(34, 16) == len(tail) - 4 and 92 not in tail
        if (padded and tail.endswith(b'"}\n\n')) or tail == b"}\n\n":
            return block[: at - 1] + tail
    found = _LAST_MEMBER.match(block, at) if at >= 0 else None
    if found is None or not block.startswith(b"data:"):
        return None
    before = block[:at].rstrip(b" \t")
    if not before.endswith(b",") or before.endswith((b" ,", b"\t,", b"\n,", b"\r,", b":,")):
        return None
    return before[:-1] + block[found.end() :]


def without_null_usage(block: bytes) -> bytes:
    """The block without the members `"usage": null` of its outermost object, with the comma and blanks of each."""
    lines = data_lines(block)
    payload = b"\n".join([block[line.value : line.value_end] for line in lines])
    kept: list[bytes] = []
    position = 0
    for start, end in _in_block(_null_usage(payload), lines):
        kept.append(block[position:start])
        position = end
    return b"".join([*kept, block[position:]])


def _null_usage(payload: bytes) -> list[tuple[int, int]]:
    """The ranges to cut, in order and disjoint."""
    scanned = scan_object(payload)
    if scanned is None:
        return []
    members = scanned.members
    goes = [member.key == _USAGE and payload[member.value : member.end] == b"null" for member in members]
    if all(goes):
        return [(scanned.opening + 1, scanned.closing)] if members else []
    cuts: list[tuple[int, int]] = []
    first_kept = goes.index(False)
    if first_kept:
        cuts.append((members[0].start, members[first_kept].start))
    rest = members[first_kept:]
    for before, member, gone in zip(rest, rest[1:], goes[first_kept + 1 :], strict=False):
        if gone:
            cuts.append((before.end, member.end))
    return cuts


def _in_block(cuts: list[tuple[int, int]], lines: list[DataLine]) -> list[tuple[int, int]]:
    r"""Ranges of the joined data as ranges of the block: a \n in it stands for a line end and the next field's name.

    A line of another kind between two data lines stays, and so does the seam around it.
    """
    ranges: list[tuple[int, int]] = []
    offset = 0  # of the line in the joined data
    first = 0  # of the cuts that do not end before it
    for index, line in enumerate(lines):
        following = lines[index + 1] if index + 1 < len(lines) else None
        seam = offset + line.value_end - line.value
        while first < len(cuts) and cuts[first][1] <= offset:
            first += 1
        current = first
        while current < len(cuts) and cuts[current][0] <= seam:
            start, end = cuts[current]
            low, high = max(start, offset) - offset, min(end, seam) - offset
            if low < high:
                ranges.append((line.value + low, line.value + high))
            if following is not None and end > seam and following.start == line.end:
                ranges.append((line.value_end, following.value))
            current += 1
        offset = seam + 1
    return ranges
