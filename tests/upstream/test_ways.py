"""The ways to an upstream: TLS, proxies, IPv6, several addresses; and what is said when there is none."""

import asyncio
import base64
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import UpstreamTooSlow, UpstreamUnreachable, UsageError
from proxy.upstream.route import route_to
from tests.upstream.talking import OK, Serve, Server, ask, pointing_to, read_one, says, serving


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", *new, *names, "-keyout", str(key), "-out", str(made)],
        check=True,
        capture_output=True,
    )
    return made, key


def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_tls_with_a_certificate_of_ones_own_takes_sessions_up_again(certificate: tuple[Path, Path]) -> None:
    seen: list[tuple[bool, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        handshake = writer.get_extra_info("ssl_object")
        seen.append((handshake.session_reused, handshake.version()))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()

    async with serving(serve, ca_file=certificate[0], ssl=tls(certificate)) as (_, upstream):
        for _ in range(3):
            heard = await ask(upstream)
            assert (heard.status, heard.body) == (200, b"hi")
            await asyncio.sleep(0.05)
    assert [reused for reused, _ in seen] == [False, True, True]


async def test_a_certificate_that_nobody_trusts(certificate: tuple[Path, Path]) -> None:
    async with serving(says(OK), ssl=tls(certificate)) as (_, upstream):
        heard = await ask(upstream)
    assert isinstance(heard.error, UpstreamUnreachable)
    assert "certificate is not trusted" in str(heard.error)
    assert not heard.error.sent


async def test_a_certificate_file_that_is_none(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    with pytest.raises(UsageError, match=r"upstream_ca_file: .* cannot be read"):
        async with pointing_to("https://localhost/v1", ca_file=wrong):
            pass
    wrong.write_text("no certificate")
    with pytest.raises(UsageError, match=r"upstream_ca_file: .* holds no certificates"):
        async with pointing_to("https://localhost/v1", ca_file=wrong):
            pass


async def test_ipv6() -> None:
    try:
        async with serving(says(OK), host="::1") as (_, upstream):
            assert (await ask(upstream)).body == b"hi"
    except OSError:
        pytest.skip("this machine has no ::1")


async def test_nobody_listens_and_nobody_has_that_name() -> None:
    async with pointing_to("http://127.0.0.1:1/v1") as upstream:
        heard = await ask(upstream)
        assert isinstance(heard.error, UpstreamUnreachable)
        assert "127.0.0.1:1 cannot be reached: Connection refused" in str(heard.error)
        assert not heard.error.sent
    async with pointing_to("http://nobody.invalid/v1") as upstream:
        heard = await ask(upstream)
        assert isinstance(heard.error, UpstreamUnreachable | UpstreamTooSlow)
        assert not heard.error.sent


async def test_of_several_addresses_the_one_that_answers_and_looked_up_anew() -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")) as (_, other):
        port = int(other.shown.rpartition(":")[2])
        async with pointing_to(f"http://several.test:{port}/v1") as upstream:
            looked_up = []

            async def look_up(host: str, *_: object, **__: object) -> list[Any]:
                looked_up.append(host)
                if len(looked_up) == 3:
                    raise OSError(-3, "Temporary failure in name resolution")
                return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

            upstream._dialer._loop.getaddrinfo = look_up  # type: ignore[method-assign,assignment]
            try:
                for _ in range(3):
                    assert (await ask(upstream)).body == b"hi"
                assert looked_up == ["several.test"]
                for _ in range(2):  # the second time the look-up fails: the known addresses hold on
                    upstream._dialer._looked_up = float("-inf")
                    assert (await ask(upstream)).body == b"hi"
                assert len(looked_up) == 3
            finally:
                del upstream._dialer._loop.getaddrinfo


# --- proxies ---


def forwarding_to(port: int, heads: list[bytes]) -> Serve:
    """A proxy that opens tunnels, all to the same port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if not heads[-1].startswith(b"CONNECT"):
            await reader.readexactly(2)
            writer.write(OK)
            return
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    target.write(data)
            target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    return serve


async def test_through_a_proxy_with_a_password(certificate: tuple[Path, Path]) -> None:
    heads: list[bytes] = []
    async with serving(says(OK), ssl=tls(certificate)) as (_, direct):
        port = direct.shown.rpartition(":")[2]
        proxy = Server(forwarding_to(int(port), heads))
        async with await asyncio.start_server(proxy.connected, "127.0.0.1", 0) as listening:
            proxy_port = listening.sockets[0].getsockname()[1]
            environ = {"HTTPS_PROXY": f"http://me:p%40ss@127.0.0.1:{proxy_port}", "NO_PROXY": "other.test"}
            async with pointing_to(
                f"https://upstream.test:{port}/v1", environ=environ, ca_file=certificate[0]
            ) as upstream:
                upstream._host = "localhost"  # the name in the certificate
                assert (await ask(upstream)).body == b"hi"
            await asyncio.gather(*proxy.tasks, return_exceptions=True)
    credentials = base64.b64encode(b"me:p@ss").decode()
    assert heads[0].decode() == (
        f"CONNECT upstream.test:{port} HTTP/1.1\r\nHost: upstream.test:{port}\r\n"
        f"Proxy-Authorization: Basic {credentials}\r\n\r\n"
    )


async def test_plain_http_through_a_proxy_names_its_server() -> None:
    heads: list[bytes] = []
    proxy = Server(forwarding_to(0, heads))
    async with await asyncio.start_server(proxy.connected, "127.0.0.1", 0) as listening:
        environ = {"http_proxy": f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"}
        async with pointing_to("http://upstream.test/base", environ=environ) as upstream:
            assert (await ask(upstream)).body == b"hi"
    assert heads[0].startswith(b"POST http://upstream.test/base/x?a=b HTTP/1.1\r\nHost: upstream.test\r\n")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "it answers 407"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "it spoke before it was asked"),
        (b"nonsense\r\n\r\n", "the status line is none"),
        (b"", "it closed the connection"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel(answer: bytes, words: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    proxy = Server(serve)
    async with await asyncio.start_server(proxy.connected, "127.0.0.1", 0) as listening:
        shown = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with pointing_to("https://upstream.test/v1", environ={"https_proxy": f"http://{shown}"}) as upstream:
            heard = await ask(upstream)
    assert str(heard.error) == f"the proxy {shown} opens no tunnel: {words}"
    assert heard.error is not None
    assert not heard.error.sent


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "https://api.test/v1", False),
        ("*", "https://api.test/v1", True),
        ("api.test", "https://api.test/v1", True),
        ("api.test", "https://eu.api.test/v1", True),
        (".api.test", "https://eu.api.test/v1", True),
        ("*.api.test", "https://eu.api.test/v1", True),
        ("api.test", "https://otherapi.test/v1", False),
        ("other, API.test ", "https://Api.Test/v1", True),
        ("api.test:443", "https://api.test/v1", True),
        ("api.test:8443", "https://api.test/v1", False),
        ("10.0.0.0/8", "https://10.1.2.3/v1", True),
        ("10.0.0.0/8", "https://11.1.2.3/v1", False),
        ("[2001:db8::1]", "https://[2001:db8::1]/v1", True),
        ("", "http://localhost:8080/v1", True),
        ("", "http://127.0.0.1:8080/v1", True),
        ("", "http://[::1]:8080/v1", True),
    ],
)
def test_who_is_reached_without_the_proxy(no_proxy: str, url: str, direct: bool) -> None:
    environ = {"HTTPS_PROXY": "http://proxy:3128", "HTTP_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy}
    assert (route_to(url, environ).proxy is None) == direct


@pytest.mark.parametrize("wrong", ["https://proxy:3128", "socks5://proxy", "http://", "http://proxy:port", "http://[x"])
def test_a_proxy_that_cannot_be_used_is_named_and_its_password_is_not(wrong: str) -> None:
    with pytest.raises(UsageError) as error:
        route_to("https://api.test/v1", {"https_proxy": wrong.replace("//", "//me:secret@")})
    assert "HTTPS_PROXY must be" in str(error.value)
    assert "secret" not in str(error.value)
