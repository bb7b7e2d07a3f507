"""Offsets of members: what stands there decodes to what the object has."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.metering.json_members import scan_object

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


def nested(depth: int) -> Any:
    value: Any = []
    for level in range(depth):
        value = [value] if level % 2 else {"a": value, "b": '"]}'}
    return value


@given(
    value=st.dictionaries(st.text(max_size=6), VALUE, max_size=6),
    style=st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}]),
    blank=st.sampled_from(["", " ", "\r\n\t "]),
)
@example(value={"deep": nested(63), "x": 1}, style={"separators": (",", ":")}, blank="")
def test_members_are_where_they_are_said_to_be(value: dict[str, Any], style: dict[str, Any], blank: str) -> None:
    data = (blank + json.dumps(value, **style) + blank).encode(errors="replace")
    scanned = scan_object(data)
    assert scanned is not None
    read = json.loads(data)
    assert {member.key.decode(): json.loads(data[member.value : member.end]) for member in scanned.members} == read
    assert data[scanned.opening : scanned.closing + 1] == data.strip()
    assert all(data[member.start : member.start + 1] == b'"' for member in scanned.members)


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"[]", b"5", b'"{}"', b"{", b"}", b"{}}", b"{} {}", b'{"a"}', b'{"a":}', b'{"a":1,}', b'{,"a":1}', b'{"a":1',
        b'{"a":[}', b'{"a":[1', b'{"a":"x}', b'{"a":"x\\"}', b'{"a":1 2}', b"{a:1}", b'{"a":[[[[[[[[[[[[[[[[[[[[1}', b'{"a":' + b"[" * 50,
        b'{"a":' + b"[" * 50 + b"]" * 49 + b"}", b'{"a":' + b"[" * 50 + b'"' + b"]" * 50 + b"}", b"\xa0{}", b"\x0b{}",
    ],
)  # fmt: skip
def test_what_is_no_object(data: bytes) -> None:
    assert scan_object(data) is None


def test_the_last_of_two_counts_and_escapes_are_read() -> None:
    data = b'{"a": 1, "\\u0061": 2, "b\\ud800": 3}'
    scanned = scan_object(data)
    assert scanned is not None
    last = scanned.last(b"a")
    assert last is not None
    assert data[last.value : last.end] == b"2"
    assert data[last.start : last.end] == b'"\\u0061": 2'
    assert scanned.last(b"c") is None


@given(data=st.binary(max_size=80) | st.text(alphabet='{}[]",:\\a1 ', max_size=60).map(str.encode))
def test_any_bytes_are_scanned(data: bytes) -> None:
    scan_object(data)


def test_nesting_without_end_takes_neither_stack_nor_time() -> None:
    assert scan_object(json.dumps({"deep": nested(64)}).encode()) is None
    assert scan_object(b'{"a":' + b"[" * 10_000_000 + b"]" * 10_000_000 + b"}") is None
    assert scan_object(b'{"a":' * 4_000_000) is None
