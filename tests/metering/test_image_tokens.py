"""An image's size from the head of its data: URL, and its tokens by OpenAI's guide."""

import base64
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.image_tokens import image_tokens, size_of


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def png(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"rest" * 50


def jpeg(width: int, height: int, metadata: int = 0) -> bytes:
    segments = b""
    while metadata > 0:
        size = min(metadata, 65_000)
        segments += b"\xff\xe1" + struct.pack(">H", size + 2) + b"\xff\xc0" * (size // 2) + b"x" * (size % 2)
        metadata -= size
    frame = b"\xff\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + b"\0" * 20
    return b"\xff\xd8" + segments + b"\xff\xc4\x00\x04ab" + frame


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 20


def webp(width: int, height: int, form: bytes) -> bytes:
    if form == b"VP8X":
        body = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif form == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + b"\0" * 8
    else:
        body = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + b"\0" * 4 + b"WEBP" + form + struct.pack("<I", len(body)) + body + b"\0" * 8


@pytest.mark.parametrize("size", [(1, 1), (640, 480), (3000, 2000), (16383, 1)])
def test_sizes(size: tuple[int, int]) -> None:
    for data in (
        png(*size),
        jpeg(*size),
        jpeg(*size, metadata=150_000),
        gif(*size),
        *(webp(*size, form) for form in (b"VP8X", b"VP8L", b"VP8 ")),
    ):
        assert size_of(url(data)) == size


@pytest.mark.parametrize(
    "given",
    [
        "",
        "https://example.com/cat.png",
        "data:image/png;base64,",
        "data:image/png;base64,!!!!",
        "data:image/png,plain",
        url(b"BM" + b"\0" * 50),
        url(png(0, 10)),
        url(png(10, 10)[:20]),
        url(jpeg(10, 10)[:10]),
        url(webp(10, 10, b"ALPH")),
        url(b"RIFF"),
        url(b"GIF8"),
        url(jpeg(10, 10, metadata=400_000)),  # its size stands too far in
    ],
)
def test_no_size(given: str) -> None:
    assert size_of(given) is None


@given(st.text(max_size=200), st.binary(max_size=300))
def test_any_url_has_tokens(text: str, data: bytes) -> None:
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF89a", b"RIFF"):
        assert image_tokens("gpt-4o", url(head + data), text) >= 85
    assert image_tokens(text, text, text) > 0


@pytest.mark.parametrize(
    ("base", "size", "detail", "tokens"),
    [
        ("gpt-4o", (1024, 1024), "high", 765),  # the guide's examples
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4o-mini", (1024, 1024), None, 2833 + 4 * 5667),
        ("gpt-4o-mini", (4096, 8192), "low", 2833),
        ("gpt-4.1", (512, 512), "auto", 255),
        ("gpt-4.1-mini", (1024, 1024), None, 1659),  # 1024 patches * 1.62
        ("gpt-4.1-mini", (1800, 2400), None, 2353),  # 1452 patches
        ("gpt-4.1-nano", (1024, 1024), None, 2520),
        ("gpt-4.1-mini", (10_000, 10), None, 508),  # 313 patches in a row
        ("gpt-4.1-mini", (100_000, 1), None, 2489),
        ("gpt-4.1-mini", (4000, 4000), "low", 415),
        ("gpt-5", (1024, 1024), None, 630),
        ("o1", (1024, 1024), None, 675),
        ("whatever", (1024, 1024), None, 765),
    ],
)
def test_tokens(base: str, size: tuple[int, int], detail: str | None, tokens: int) -> None:
    assert image_tokens(base, url(png(*size)), detail) == tokens


def test_a_size_that_cannot_be_read_is_1024_by_1024() -> None:
    assert image_tokens("gpt-4o", "https://example.com/cat.png", None) == 765
    assert image_tokens("gpt-4o", None, None) == 765


@given(st.integers(1, 2**31), st.integers(1, 2**31))
def test_tokens_are_bounded(width: int, height: int) -> None:
    assert 255 <= image_tokens("gpt-4o", url(png(width, height)), None) <= 1445
    assert 1 <= image_tokens("gpt-4.1-nano", url(png(width, height)), None) <= 3779
