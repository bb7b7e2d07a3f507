"""What a request costs beyond its own time: it leaves nothing behind that the collector would have to find."""

import asyncio
import gc
from pathlib import Path

from tests.server.worker_path import EVENT, USAGE, WorkerPath, chunk, reply, request


async def test_a_whole_reply_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    path = WorkerPath(asyncio.get_running_loop(), tmp_path)
    await path.warm(request(), reply())
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            path.one(request(), reply())
        assert gc.collect() == 0
    finally:
        gc.enable()
        path.close()


async def test_neither_does_one_whose_head_is_like_no_other(tmp_path: Path) -> None:
    path = WorkerPath(asyncio.get_running_loop(), tmp_path)
    await path.warm(request(), reply())
    gc.collect()
    gc.disable()
    try:
        for number in range(50):
            path.from_client.data_received(request(lines=b"X-Request-Id: %d\r\n" % number))
            while not path.upstream.written:
                await asyncio.sleep(0)
            path.from_upstream.data_received(reply())
            assert path.client.taken().startswith(b"HTTP/1.1 200 ")
            path.upstream.taken()
        await asyncio.sleep(0)
        assert gc.collect() == 0
    finally:
        gc.enable()
        path.close()


async def test_a_stream_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    path = WorkerPath(asyncio.get_running_loop(), tmp_path)
    await path.warm(request(), reply())
    pieces = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunk(EVENT % (b'{"index":0,"delta":{"content":"hi"}}', b'"usage":null')),
        chunk(EVENT % (b"", USAGE)),
        chunk(b"data: [DONE]\n\n"),
        b"0\r\n\r\n",
    ]
    for more in (b',"stream":true', b',"stream":true,"stream_options":{"include_usage":true}'):
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                path.from_client.data_received(request(more))
                for piece in pieces:
                    path.from_upstream.data_received(piece)
                await asyncio.sleep(0)
                assert path.client.taken().endswith(b"0\r\n\r\n")
                assert path.upstream.taken()
            assert gc.collect() == 0
        finally:
            gc.enable()
    path.close()
