"""An upstream that replays recordings: the request names one in its query, `?recording=17`."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from proxy.cli.small_http import HttpRequest, SmallHttpServer


@dataclass(frozen=True, slots=True)
class Recording:
    """A response as it stands on the wire, in the pieces in which it is written.

    `asked` is what the upstream says instead to a request that has `stream_options.include_usage`.
    """

    pieces: tuple[bytes, ...]
    asked: tuple[bytes, ...] | None = None
    ends_connection: bool = False


class ReplayUpstream(SmallHttpServer):
    def __init__(self, recordings: Sequence[Recording]) -> None:
        super().__init__()
        self.recordings = recordings
        self.received: list[HttpRequest] = []

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        self.received.append(request)
        recording = self.recordings[int(parse_qs(urlsplit(request.target).query)["recording"][0])]
        pieces = recording.pieces
        if recording.asked is not None and asks_usage(request.body):
            pieces = recording.asked
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if recording.ends_connection:
            writer.close()


def asks_usage(body: bytes) -> bool:
    try:
        options = json.loads(body)["stream_options"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(options, Mapping) and options.get("include_usage") is True
