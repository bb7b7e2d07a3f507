import os
from pathlib import Path

from proxy.server.watch import look


def test_every_change_is_seen(tmp_path: Path) -> None:
    file, other = tmp_path / "a.toml", tmp_path / "b.toml"
    seen = [look([file])]
    file.write_text("1")
    seen.append(look([file]))
    file.write_text("12")
    seen.append(look([file]))
    os.utime(file, ns=(1, 1))
    seen.append(look([file]))
    other.write_text("12")
    os.utime(other, ns=(1, 1))
    other.replace(file)  # as editors and Kubernetes do: another file under the same name
    seen.append(look([file]))
    file.unlink()
    assert len(set(seen)) == len(seen)
    assert look([file]) == seen[0]


def test_nothing_changed(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("1")
    assert look([file, tmp_path]) == look([file, tmp_path])
    assert look([]) == ()
    assert look([tmp_path]) != look([file])
