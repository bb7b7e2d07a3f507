"""The schema that editors check card files with: it knows what the reader knows, and takes every file of ours."""

import json
import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rates import CatalogueError
from rates.card_file import _CARD_KEYS, _FILE_KEYS, read_card_file
from rates.rate_card import TIERS, UNIT_KINDS
from rates.usage import KINDS

CARDS = Path(__file__).parents[2] / "rates" / "cards"
SCHEMA = json.loads((CARDS / "card.schema.json").read_text("utf-8"))
FILES = sorted(CARDS.rglob("*.toml"))
CARD = """\
[[card]]
model = "acme-1"
provider = "acme"
effective_from = 2026-01-01
source = "contract"
checked = 2026-11-01
standard = { input = "1", output = "2" }
"""


def as_editors_see_it(text: str) -> Any:
    """TOML's dates are texts in JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value.isoformat() if isinstance(value, date | datetime) else value

    return plain(tomllib.loads(text))


def complaints(text: str) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(as_editors_see_it(text))]


def test_it_is_a_schema_and_knows_every_field() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    tier = set(SCHEMA["$defs"]["tier"]["properties"])
    assert set(SCHEMA["properties"]) == set(_FILE_KEYS)
    assert set(SCHEMA["$defs"]["card"]["properties"]) == set(_CARD_KEYS)
    assert tier == {*KINDS, "assumed", "long_context"}
    assert set(SCHEMA["properties"]["tools"]["additionalProperties"]["properties"]) == set(UNIT_KINDS)
    assert {each["required"][0] for each in SCHEMA["$defs"]["card"]["anyOf"]} == set(TIERS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_names_it_and_passes(file: Path) -> None:
    text = file.read_text("utf-8")
    first = text.partition("\n")[0]
    assert (file.parent / first.removeprefix("#:schema ")).resolve() == CARDS / "card.schema.json"
    assert complaints(text) == []


def test_a_card_as_a_person_writes_it_passes() -> None:
    assert complaints(CARD) == []
    assert complaints(CARD.replace("2026-01-01", "2026-01-01T00:00:00+02:00")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        CARD.replace('input = "1"', "input = 1.5"),
        CARD.replace('input = "1"', 'input = "-1"'),
        CARD.replace('input = "1"', 'input = "1,5"'),
        CARD.replace('input = "1"', 'input = "1e3"'),
        CARD.replace('input = "1"', 'inptu = "1"'),
        CARD.replace("standard", "standrad"),
        CARD.replace("[[card]]", "[[cards]]"),
        CARD.replace("[[card]]", "[card]"),
        CARD.replace('provider = "acme"\n', ""),
        CARD.replace('provider = "acme"', 'provider = "Acme Inc"'),
        CARD.replace('source = "contract"\n', ""),
        CARD.replace("checked = 2026-11-01\n", ""),
        CARD.replace("effective_from = 2026-01-01\n", ""),
        CARD.replace("2026-01-01", "2026-01-01T00:00:00"),
        CARD.replace('model = "acme-1"\n', ""),
        CARD.replace('standard = { input = "1", output = "2" }\n', ""),
        CARD.replace('{ input = "1", output = "2" }', "{ }"),
        CARD + "fine_tuned = 1\n",
        CARD + 'snapshots = "acme-1"\n',
        CARD + "training = { }\n",
        CARD + 'training = { usd_per_million = "1", usd_per_hour = "1" }\n',
        CARD + "hosting = { usd_per_hour = 1.7 }\n",
        CARD + "max_output_tokens = 0\n",
        CARD + "residency_times = 1.1\n",
        "[tools.search]\nweb_search_calls = 0.01\n" + CARD,
        '[tools.search]\ninput = "1"\n' + CARD,
    ],
)
def test_what_the_reader_refuses_the_schema_refuses_too(tmp_path: Path, wrong: str) -> None:
    assert complaints(wrong)
    file = tmp_path / "wrong.toml"
    file.write_text(wrong)
    with pytest.raises(CatalogueError):
        read_card_file(file)
