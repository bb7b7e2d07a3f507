"""The encodings: the very tables of tiktoken, chosen by the base, read once and only when needed, without a network."""

import hashlib
import importlib
import lzma
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiktoken

from proxy.metering import encodings
from proxy.metering.encodings import PATTERNS, TABLES, EncodingName, load, tokenizer_for

NAMES: tuple[EncodingName, ...] = ("o200k_base", "cl100k_base")
# What tiktoken 0.14 expects of a downloaded table (tiktoken_ext/openai_public.py).
SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
CACHE_KEY = {
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
}
SAMPLES = (
    "",
    "The meter runs while you ride.",
    "運転中もメーターは動きます。料金は降りるときに分かります。",
    "def fare(km: float) -> int:\n    return round(km * 320)\n",
    "مرحبا नमस्ते Ünïcödé 😀\u0301",
    "<|endoftext|> is text here",
    "  blanks \t\n\n\r\n  1234567 !!!",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_table_is_openai_s(name: str) -> None:
    table = lzma.decompress((TABLES / f"{name}.tiktoken.xz").read_bytes())
    assert hashlib.sha256(table).hexdigest() == SHA256[name]
    assert SHA256[name] in (TABLES / "LICENSE").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_encoding_that_tiktoken_builds(
    name: EncodingName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CACHE_KEY[name]).write_bytes(lzma.decompress((TABLES / f"{name}.tiktoken.xz").read_bytes()))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))  # where tiktoken finds what it would download
    theirs = getattr(importlib.import_module("tiktoken_ext.openai_public"), name)()
    ours = load(name)
    assert PATTERNS[name] == theirs["pat_str"]
    assert ours._mergeable_ranks == theirs["mergeable_ranks"]
    whole = tiktoken.Encoding(**theirs)
    for text in SAMPLES:
        assert ours.encode_ordinary(text) == whole.encode_ordinary(text)


@pytest.mark.parametrize(
    ("model", "encoding", "assumed"),
    [
        ("gpt-4o", "o200k_base", False),
        ("gpt-4o-mini-2024-07-18", "o200k_base", False),
        ("chatgpt-4o-latest", "o200k_base", False),
        ("gpt-4.1-nano", "o200k_base", False),
        ("gpt-4.5-preview", "o200k_base", False),
        ("gpt-5", "o200k_base", False),
        ("gpt-5.6-sol", "o200k_base", False),
        ("gpt-6-astra", "o200k_base", False),
        ("o1", "o200k_base", False),
        ("o3-mini", "o200k_base", False),
        ("o4-mini-2025-04-16", "o200k_base", False),
        ("ft:gpt-4.1-2025-04-14:acme::abc123", "o200k_base", False),  # tiktoken says cl100k
        ("ft:o4-mini-2025-04-16:acme::abc123", "o200k_base", False),  # tiktoken raises
        ("ft:gpt-4o-mini-2024-07-18:gpt-4:gpt-3.5:x", "o200k_base", False),
        ("openai/GPT-4o", "o200k_base", False),
        ("openrouter/openai/ft:gpt-4.1-mini-2025-04-14:acme::1", "o200k_base", False),
        ("gpt-4.1-mini-2025-04-14.ft-0123456789abcdef0123456789abcdef", "o200k_base", False),
        ("gpt-4", "cl100k_base", False),
        ("gpt-4-0613", "cl100k_base", False),
        ("gpt-4-turbo-2024-04-09", "cl100k_base", False),
        ("gpt-3.5-turbo-0125", "cl100k_base", False),
        ("gpt-35-turbo", "cl100k_base", False),
        ("ft:gpt-3.5-turbo-0125:acme::1", "cl100k_base", False),
        ("ft:gpt-4-0613:acme::1", "cl100k_base", False),
        ("text-embedding-3-small", "cl100k_base", False),
        ("text-embedding-ada-002", "cl100k_base", False),
        ("ft:davinci-002:acme::1", "cl100k_base", False),
        ("babbage-002", "cl100k_base", False),
        ("gpt-4.9", "o200k_base", True),
        ("o12", "o200k_base", True),
        ("llama-3-70b", "o200k_base", True),
        ("acme-classifier", "o200k_base", True),
        ("ftchkpt-0123456789abcdef", "o200k_base", True),
        ("", "o200k_base", True),
        (None, "o200k_base", True),
    ],
)
def test_chosen_by_the_base(model: str | None, encoding: str, assumed: bool) -> None:
    tokenizer = tokenizer_for(model)
    assert (tokenizer.encoding, tokenizer.assumed) == (encoding, assumed)


def test_it_is_read_once_by_many(monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[str] = []
    build = encodings._build

    def counted(name: EncodingName) -> tiktoken.Encoding:
        builds.append(name)
        return build(name)

    monkeypatch.setattr(encodings, "_loaded", {})
    monkeypatch.setattr(encodings, "_build", counted)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(load("cl100k_base"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == ["cl100k_base"]
    assert len({id(one) for one in got}) == 1


def run(code: str, *, before: tuple[str, ...] = (), **environ: str) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", code],
        env={**os.environ, **environ},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_is_read_before_it_is_needed() -> None:
    code = """
import sys
import proxy.server.worker
from proxy.metering import Ending, Meter, Reading, endpoint_of, encodings, read_request
chat = endpoint_of("POST", "chat/completions")
body = b'{"model": "gpt-4o", "messages": []}'
meter = Meter(chat, read_request(chat, body), hide_usage=False)
meter.start(200, "application/json", "")
meter.feed(b'{"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}')
assert isinstance(meter.end(Ending.COMPLETE, body), Reading)
encodings.tokenizer_for("gpt-4o")
print("tiktoken" in sys.modules, encodings._loaded)
"""
    assert run(code) == "False {}"


def test_it_needs_no_network(tmp_path: Path) -> None:
    """In a network namespace of its own where that is permitted; and always with sockets that raise."""
    code = """
import socket
def refuse(*_, **__): raise AssertionError("a socket was asked for")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
from proxy.metering.encodings import tokenizer_for
print(len(tokenizer_for("gpt-4o").encode("The meter runs.")), len(tokenizer_for("gpt-4").encode("The meter runs.")))
"""
    # Neither tiktoken's cache nor a place where one could be.
    where = {"TIKTOKEN_CACHE_DIR": str(tmp_path / "none"), "TMPDIR": str(tmp_path)}
    unshare = shutil.which("unshare")
    alone = unshare is not None and subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode == 0
    assert run(code, before=(unshare, "-rn") if unshare and alone else (), **where) == "4 4"
    assert not list(tmp_path.iterdir())
