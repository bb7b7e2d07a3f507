"""Content-Encoding, undone for reading: gzip and deflate. What cannot be undone is said, never guessed."""

import zlib
from collections.abc import Iterator
from typing import Final

# One decoded piece: a small body that unpacks to a huge one is never in memory as a whole.
_PIECE: Final = 1024 * 1024
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's window bits for the three formats


class Inflater:
    """Decodes as bytes come. Garbage does not raise: it sets `failed`, and nothing more comes out."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._inflate = zlib.decompressobj(_GZIP) if gzip else None
        self._start = b""
        self._ended = False
        self.failed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self.failed or self._ended:
            return
        if self._inflate is None:
            data = self._start + data
            if len(data) < 2:
                self._start = data
                return
            self._inflate = zlib.decompressobj(_ZLIB if _has_zlib_head(data) else _RAW)
        try:
            yield from self._decode(self._inflate, data)
        except zlib.error:
            self.failed = True

    def _decode(self, inflate: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
        while True:
            before = inflate.copy()
            try:
                piece = inflate.decompress(data, _PIECE)
            except zlib.error:
                yield from _up_to_the_garbage(before, data)
                raise
            if piece:
                yield piece
            if not inflate.eof:
                data = inflate.unconsumed_tail
                if not data and len(piece) < _PIECE:
                    return
                continue
            # A gzip body may have several members; what else stands after its end is ignored.
            data = inflate.unused_data
            if self._gzip and data.startswith(_GZIP_MAGIC):
                inflate = self._inflate = zlib.decompressobj(_GZIP)
            else:
                self._ended = not self._gzip or not _GZIP_MAGIC.startswith(data)
                return


def _up_to_the_garbage(inflate: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """What zlib drops when it fails, though it would have given it if the data had been cut before the garbage."""
    good = bytearray()
    try:
        for at in range(len(data)):
            good += inflate.decompress(data[at : at + 1])
    except zlib.error:
        yield bytes(good)


def is_identity(content_encoding: str) -> bool:
    return content_encoding.strip().lower() in ("", "identity")


def inflater_for(content_encoding: str) -> Inflater | None:
    """An Inflater, or None for an encoding that is not read here (br, zstd, several at once, …)."""
    encoding = content_encoding.strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return Inflater(gzip=True)
    return Inflater(gzip=False) if encoding == "deflate" else None


def _has_zlib_head(data: bytes) -> bool:
    """RFC 1950. Some servers send deflate (RFC 1951) without that head, though HTTP wants it."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
