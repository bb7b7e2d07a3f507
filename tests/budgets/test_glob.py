"""The index of globs: it never misses one that fits, and looks at few of many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.budgets.glob import GlobIndex, example, fits

PATTERNS = st.lists(st.text(alphabet="ab*?", max_size=6), max_size=12)
NAMES = st.lists(st.text(alphabet="ab", max_size=8), max_size=3)


def index_of(*patterns: str) -> GlobIndex[str]:
    index = GlobIndex[str]()
    for pattern in patterns:
        index.add(pattern, pattern)
    return index


@given(PATTERNS, NAMES)
def test_every_glob_that_fits_is_a_candidate(patterns: list[str], names: list[str]) -> None:
    fitting = {pattern for pattern in patterns if any(map(fits(pattern), names))}

    assert fitting <= set(index_of(*patterns).candidates(names))


@given(st.text(alphabet="ab*?", max_size=8))
def test_an_example_fits(pattern: str) -> None:
    assert fits(pattern)(example(pattern))


@pytest.mark.parametrize("shape", ["app-{}", "app-{}:*", "*:app-{}", "ft:*:app-{}:*", "ft:gpt-?o:app-{}:*"])
def test_ten_thousand_globs_leave_few_candidates(shape: str) -> None:
    index = index_of(*(shape.format(f"{number:05}") for number in range(10_000)))
    wanted = shape.format("00007")

    assert list(index.candidates([example(wanted)])) == [wanted]


def test_wildcards_alone_are_always_candidates() -> None:
    assert list(index_of("*", "?", "a*").candidates(["b"])) == ["*", "?"]
    assert list(index_of("*").candidates([])) == ["*"]
