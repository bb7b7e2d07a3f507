"""What a card file may say. Each mistake: file, line, reason."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rates import CatalogueError, load_catalogue, parse_model_name
from rates.card_file import read_card_file
from rates.card_lines import Lines

CARD = """\
[[card]]
model = "acme-1"
provider = "acme"
effective_from = 2026-01-01
source = "contract"
checked = 2026-11-01
standard = { input = "1", output = "2" }
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "my-rates.toml"
    file.write_text(text, "utf-8")
    return file


def changed(old: str, new: str) -> str:
    assert old in CARD
    return CARD.replace(old, new)


def test_a_card_as_a_person_writes_it(tmp_path: Path) -> None:
    text = """
provider = "acme"   # once for the file

[[card]]
model = "ACME-1"
snapshots = ["acme-1-2026-01-01"]
effective_from = 2026-01-01
effective_to = 2026-07-01T00:00:00+02:00
source = "contract"
checked = 2026-11-01
max_output_tokens = 4096
note = \"\"\"
standard = { input = 1 }   # text, not a price
\"\"\"
hosting = { usd_per_hour = "1.70", note = "some regions more" }

[card.training]
usd_per_million = "3"

[card.standard]
input = "0.150"
output = "0"
web_search_calls = "0.01"
assumed = ["output"]

[card.long_context]
above_prompt_tokens = 1000
input_times = "2"
output_times = "1.5"
"""
    (sheet,) = read_card_file(write(tmp_path, text))
    assert sheet.model == "acme-1"
    assert sheet.effective_to == datetime(2026, 6, 30, 22, tzinfo=UTC)
    catalogue = load_catalogue([sheet.path])
    card = catalogue.find(
        parse_model_name("acme-1-2026-01-01"), provider="acme", tier=None, at=datetime(2026, 2, 1, tzinfo=UTC)
    ).card
    assert dict(card.rates) == {"input": Decimal("0.150"), "output": Decimal(0)}
    assert dict(card.unit_rates) == {"web_search_calls": Decimal("0.01")}
    assert card.assumed == {"output"}
    assert card.usd_per_million("input", long_context=True) == Decimal("0.3")
    assert card.usd_per_million("cached_input", long_context=True) is None
    assert card.id == "my-rates:acme/acme-1/standard/2026-01-01"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (changed('input = "1"', "input = 1.5"), 7, 'write the amount in quotes: input = "1.5"'),
        (changed('input = "1"', "input = 1"), 7, "in quotes"),
        (changed('input = "1"', 'input = "-1"'), 7, "below zero"),
        (changed('input = "1"', 'input = "1e3"'), 7, "not a plain decimal amount"),
        (changed('input = "1"', 'input = "1,5"'), 7, "not a plain decimal amount"),
        (changed('input = "1"', 'input = " 1"'), 7, "not a plain decimal amount"),
        (changed('input = "1"', 'input = "١"'), 7, "not a plain decimal amount"),
        (changed('input = "1"', 'input = "NaN"'), 7, "not a plain decimal amount"),
        (changed('input = "1"', "input = true"), 7, "not a plain decimal amount"),
        (changed('input = "1"', "input = nan"), 7, "in quotes"),
        (changed('input = "1"', 'inptu = "1"'), 7, "unknown field 'inptu'; did you mean 'input'?"),
        (changed("standard", "standrad"), 7, "unknown field 'standrad'; did you mean 'standard'?"),
        (changed("standard", "express"), 7, "unknown field 'express'; known:"),
        (changed("[[card]]", "[[cards]]"), 1, "unknown field 'cards'; did you mean 'card'?"),
        (changed("[[card]]", "[card]"), 1, "two brackets"),
        (changed('source = "contract"\n', ""), 1, "source is missing"),
        (changed('source = "contract"', 'source = " "'), 5, "not empty"),
        (changed("checked = 2026-11-01\n", ""), 1, "checked is missing"),
        (changed("checked = 2026-11-01", 'checked = "2026-11-01"'), 6, "a date without quotes"),
        (changed("effective_from = 2026-01-01\n", ""), 1, "effective_from is missing"),
        (changed("2026-01-01", "2026-01-01T00:00:00"), 4, "without an offset"),
        (changed("2026-01-01", "0001-01-01T00:00:00+23:00"), 4, "not a date in UTC"),
        (changed("2026-01-01", "2026-01-01\neffective_to = 2026-01-01"), 5, "not after"),
        (changed('provider = "acme"\n', ""), 1, "provider is missing"),
        (changed('"acme"', '"Acme Inc"'), 3, "small letters"),
        (changed('model = "acme-1"\n', ""), 1, "model is missing"),
        (
            changed('"acme-1"', '"openai/acme-1"').replace('provider = "acme"', 'provider = "openai"'),
            2,
            "has a prefix",
        ),
        (changed('standard = { input = "1", output = "2" }\n', ""), 1, "has no price"),
        (changed('{ input = "1", output = "2" }', "{ }"), 7, "has no amount"),
        (changed('{ input = "1", output = "2" }', '"1"'), 7, "must be a table"),
        (changed('output = "2"', 'output = "2", assumed = ["cached_input"]'), 7, "out of: input, output"),
        (changed('output = "2"', 'output = "2", assumed = [["output"]]'), 7, "out of: input, output"),
        (
            changed('output = "2"', 'output = "2", long_context = { input = "2" }'),
            7,
            "needs a long_context of the card",
        ),
        (CARD + 'assumed = ["effective_to"]\n', 8, "out of: effective_from"),
        (CARD + "fine_tuned = 1\n", 8, "true or false"),
        (CARD + 'snapshots = "acme-1"\n', 8, "a list of ids"),
        (CARD + 'snapshots = ["a", "a"]\n', 8, "twice"),
        (CARD + "max_output_tokens = 0\n", 8, "above zero"),
        (CARD + "shutdown = 2026-01-01T00:00:00Z\n", 8, "a date without quotes"),
        (CARD + "training = { }\n", 8, "one amount"),
        (CARD + 'training = { usd_per_million = "1", usd_per_hour = "1" }\n', 8, "one amount"),
        (CARD + "hosting = { usd_per_hour = 1.7 }\n", 8, "in quotes"),
        (CARD + '[card.long_context]\nabove_prompt_tokens = 5\ninput_times = "2"\n', 8, "output_times is missing"),
        (CARD + 'tools = "search"\n', 8, "there is: none"),
        (CARD + 'tools = { web_search_calls = "1" }\n', 8, "must name a list of tool prices"),
        ('[tools.search]\ninput = "1"\n' + CARD, 2, "unknown field 'input'"),
        ("[tools]\nsearch = 1\n" + CARD, 2, "must be a table"),
        ("[tools.search]\nweb_search_calls = 0.01\n" + CARD, 2, "in quotes"),
        ('source = ""\n' + CARD, 1, "not empty"),
        ('checked = "2026"\n' + CARD, 1, "a date without quotes"),
        (CARD + "residency_times = 1.1\n", 8, "in quotes"),
        (CARD + 'any_date = "yes"\n', 8, "true or false"),
        (CARD + "standard = 1\n", 8, "is not TOML"),
        (changed('input = "1"', "input = 0x" + "f" * 9000), 7, "in quotes"),
        (CARD + "[card.batch]\ninput = 3.0\n", 9, "in quotes"),
        (CARD + CARD, 8, "acme-1: this card begins 2026-01-01 and overlaps the one of my-rates.toml:1"),
        (
            changed("2026-01-01", "2026-01-01\neffective_to = 2026-03-01") + changed("2026-01-01", "2026-02-01"),
            9,
            "overlaps the one of my-rates.toml:1, which begins 2026-01-01 and ends 2026-03-01",
        ),
        (
            changed("2026-01-01", "2026-01-01\neffective_to = 2026-03-01") + changed("2026-01-01", "2026-03-02"),
            9,
            "leaves a gap after the one of my-rates.toml:1",
        ),
        (
            CARD + changed('model = "acme-1"', 'model = "acme-2"\nsnapshots = ["acme-1"]'),
            8,
            "acme-1: this card begins 2026-01-01 and overlaps",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_and_reason(tmp_path: Path, text: str, line: int, reason: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(CatalogueError) as caught:
        load_catalogue([file])
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_stands_once_for_every_card_of_the_file(tmp_path: Path) -> None:
    text = """
provider = "acme"
source = "contract 7"
checked = 2026-11-01

[tools.search]
web_search_calls = "0.01"
file_search_calls = "0.002"

[[card]]
model = "acme-1"
effective_from = 2026-01-01
tools = "search"
standard = { input = "1", web_search_calls = "0.03" }
batch = { input = "0.5" }

[[card]]
model = "acme-2"
effective_from = 2026-01-01
source = "contract 8"
standard = { input = "1" }
"""
    first, second = read_card_file(write(tmp_path, text))
    assert (first.source, second.source, second.checked.isoformat()) == ("contract 7", "contract 8", "2026-11-01")
    assert first.tiers["batch"].unit_rates == {
        "web_search_calls": Decimal("0.01"),
        "file_search_calls": Decimal("0.002"),
    }
    assert first.tiers["standard"].unit_rates["web_search_calls"] == Decimal("0.03")
    assert second.tiers["standard"].unit_rates == {}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"nowhere\.toml: cannot be read: No such file"):
        load_catalogue([tmp_path / "nowhere.toml"])
    with pytest.raises(CatalogueError, match="cannot be read"):
        load_catalogue([tmp_path])
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'source = "\xe9"')
    with pytest.raises(CatalogueError, match="is not UTF-8"):
        load_catalogue([latin])
    for text in ("a = " + "[" * 5000, "a = " + "1" * 5000):
        with pytest.raises(CatalogueError):
            load_catalogue([write(tmp_path, text)])


def test_an_appended_card_ends_the_open_one_before_it(tmp_path: Path) -> None:
    later = changed("2026-01-01", "2026-06-01").replace('"1"', '"9"')
    for text in (CARD + later, later + CARD):
        catalogue = load_catalogue([write(tmp_path, text)])
        name = parse_model_name("acme-1")
        old = catalogue.find(
            name, provider="acme", tier=None, at=datetime(2026, 5, 31, 23, 59, 59, 999999, tzinfo=UTC)
        ).card
        new = catalogue.find(name, provider="acme", tier=None, at=datetime(2026, 6, 1, tzinfo=UTC)).card
        assert (old.rates["input"], new.rates["input"]) == (Decimal(1), Decimal(9))
        assert old.effective_to == new.effective_from


def test_two_files_must_agree(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text(CARD)
    second.write_text(CARD)
    with pytest.raises(CatalogueError, match=r"b\.toml:1: acme-1: .* overlaps the one of a\.toml:1"):
        load_catalogue([first, second])


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text, "utf-8", newline="")
    with suppress(CatalogueError):
        read_card_file(file)


def test_lines() -> None:
    lines = Lines('a = 1\n[[card]]\nb.c = 2\n[card.x]\n"d" = 3\n[[card]]\nnote = """\nb = 1\n"""\nb = 4\n')
    paths = {
        ("a",): 1, ("card", 0): 2, ("card", 0, "b"): 3, ("card", 0, "b", "c"): 3, ("card", 0, "x"): 4,
        ("card", 0, "x", "d"): 5, ("card", 0, "x", "missing"): 4, ("card", 1): 6, ("card", 1, "b"): 10, ("nowhere",): 1,
    }  # fmt: skip
    assert {path: lines.line_of(path) for path in paths} == paths
