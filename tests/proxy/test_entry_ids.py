"""Entry ids: no two are the same, in whichever process they are made."""

import os
from datetime import UTC, datetime

import pytest

from proxy.admission import mint_entry_id

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_no_two_ids_of_one_moment_are_the_same() -> None:
    ids = [mint_entry_id(AT) for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert {len(each) for each in ids} == {36}
    # 74 random bits: each digit behind the version takes every value
    behind = [each[15:18] + each[20:23] + each[24:] for each in ids]
    assert all(len({each[place] for each in behind}) == 16 for place in range(18))
    assert {each[19] for each in ids} == set("89ab")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_process_uses_none_of_its_parents_chances() -> None:
    mint_entry_id(AT)  # there are some left
    readable, writable = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writable, " ".join(mint_entry_id(AT) for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(readable, 65_536).decode().split()
    os.close(readable)
    os.close(writable)
    ours = [mint_entry_id(AT) for _ in range(200)]
    assert len({*theirs, *ours}) == 250
