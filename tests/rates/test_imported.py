"""Imported cards: made from genai-prices and nothing else, equal to it to the nano, and never in a shipped card's way."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from time import perf_counter

import pytest
from genai_prices.data import providers
from genai_prices.types import Usage as TheirUsage

from proxy.config.urls import _VENDORS
from rates import NotPriced, Usage, load_catalogue, parse_model_name, price
from rates.cards.imported.convert import FOLDER, TIERS, files
from rates.money import to_nanos

CATALOGUE = load_catalogue()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MOMENTS = (datetime(2024, 6, 1, tzinfo=UTC), datetime(2026, 8, 20, tzinfo=UTC), NOON)
THEIRS = {provider.id: provider for provider in providers}
CARDS = {provider: CATALOGUE.imported(provider) for provider in CATALOGUE.imported_providers}


def test_the_files_are_what_the_script_makes_of_genai_prices() -> None:
    made = files()
    here = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    assert here.keys() == made.keys()
    for name, text in made.items():
        assert here[name] == text, f"{name}: run python -m rates.cards.imported.convert"


def test_there_are_many_of_them() -> None:
    assert len(CARDS) > 40
    assert len({(card.provider, card.model) for cards in CARDS.values() for card in cards}) > 1_000
    assert set(_VENDORS.values()) <= CARDS.keys()


@pytest.mark.parametrize("provider", CARDS)
def test_every_price_is_theirs(provider: str) -> None:
    """Every id of every card, in every tier, on both sides of a long-context threshold."""
    compared = 0
    for card in CARDS[provider]:
        context = next(({key: value} for (key, value), tier in TIERS.items() if tier == card.tier), {})
        for each in (card.model, *card.snapshots):
            theirs = THEIRS[provider].find_model(each)
            assert theirs is not None
            for at in MOMENTS:
                if not card.holds_at(at):
                    continue
                for prompt in (1_000, 150_000, 600_000):
                    kinds = {"input": prompt, "output": 777}
                    if "cached_input" in card.rates and "cached_input" not in card.assumed:
                        kinds["cached_input"] = 321
                    if "cache_write" in card.rates:
                        kinds["cache_write"] = 45
                    if "audio_input" in card.rates:
                        kinds["audio_input"] = 67
                    kinds = {kind: count for kind, count in kinds.items() if kind in card.rates}
                    whole = sum(kinds.values()) - kinds.get("output", 0)
                    usage = TheirUsage(
                        input_tokens=whole,
                        output_tokens=kinds.get("output", 0),
                        cache_read_tokens=kinds.get("cached_input"),
                        cache_write_tokens=kinds.get("cache_write"),
                        input_audio_tokens=kinds.get("audio_input"),
                        cache_audio_read_tokens=0 if "audio_input" in kinds else None,
                        cache_audio_write_tokens=0 if "audio_input" in kinds else None,
                    )
                    said = theirs.calc_price(
                        usage, THEIRS[provider], genai_request_timestamp=at, price_context=context
                    ).total_price
                    found = CATALOGUE.find(parse_model_name(each), provider=provider, tier=card.tier, at=at)
                    assert (found.card.id, found.provenance) == (card.id, "imported")
                    assert price(Usage.of(kinds), card).nanos == to_nanos(said), (each, at, kinds)
                    compared += 1
    assert compared


def test_no_shipped_id_is_listed_twice_and_a_tier_that_a_shipped_card_leaves_out_stays_unpriced() -> None:
    shipped = {
        (card.provider, each) for card in CATALOGUE if not card.fine_tuned for each in (card.model, *card.snapshots)
    }
    for provider, cards in CARDS.items():
        for card in cards:
            assert not shipped & {(provider, each) for each in (card.model, *card.snapshots)}
    for model in ("gpt-4.1-nano", "gpt-4o-2024-05-13"):
        with pytest.raises(NotPriced):
            CATALOGUE.find(parse_model_name(model), provider="openai", tier="priority", at=NOON)


@pytest.mark.parametrize("provider", CARDS)
def test_no_fine_tune_is_priced_by_them(provider: str) -> None:
    for card in CARDS[provider]:
        assert not card.fine_tuned
        for each in (f"ft:{card.model}:acme::x", f"{card.model}.ft-0123456789abcdef0123456789abcdef"):
            name = parse_model_name(each)
            if name.fine_tuned and not any(
                name.base in (own.model, *own.snapshots) for own in CATALOGUE if own.fine_tuned
            ):
                assert not CATALOGUE.knows(name, provider)


def test_an_id_that_providers_share_has_the_price_of_the_one_that_is_asked() -> None:
    def rate(model: str, provider: str) -> Decimal:
        return CATALOGUE.find(parse_model_name(model), provider=provider, tier=None, at=NOON).card.rates["input"]

    assert rate("openai/gpt-oss-120b", "groq") == Decimal("0.15")
    assert rate("openai/gpt-oss-120b", "openai") == Decimal("0.039")
    assert rate("openai/gpt-oss-120b", "groq") != rate("openai/gpt-oss-120b", "openrouter")
    with pytest.raises(NotPriced):
        rate("claude-sonnet-4-5", "groq")


@pytest.mark.parametrize(
    ("model", "provider", "rate"),
    [
        ("claude-3-5-haiku-20241022", "anthropic", "0.8"),
        ("claude-sonnet-4-20250514", "anthropic", "3"),
        ("claude-sonnet-4-5-20250929", "anthropic", "3"),
        ("gemini-2.5-flash", "google", "0.3"),
        ("mistral-large-latest", "mistral", "2"),
        ("grok-4", "x-ai", "3"),
        ("gpt-5-nano-2025-08-07", "openai", "0.05"),
        ("deepseek/deepseek-r1:free", "openrouter", "0"),
    ],
)
def test_ids_as_people_write_them(model: str, provider: str, rate: str) -> None:
    found = CATALOGUE.find(parse_model_name(model), provider=provider, tier=None, at=NOON)
    assert (found.card.rates["input"], found.provenance) == (Decimal(rate), "imported")


@pytest.mark.parametrize("model", ["claude-3-5-haiku-new", "claude-sonnet-4-5-20250929-v1", "gpt-5-nano:free"])
def test_what_no_rule_of_theirs_says_of_a_date_is_not_priced(model: str) -> None:
    for provider in ("anthropic", "openai"):
        with pytest.raises(NotPriced):
            CATALOGUE.find(parse_model_name(model), provider=provider, tier=None, at=NOON)


def test_a_made_up_date_is_priced_but_not_known() -> None:
    """What is known may become a label of metrics; dates there are without number."""
    assert CATALOGUE.knows(parse_model_name("gpt-5-nano"), "openai")
    assert not CATALOGUE.knows(parse_model_name("gpt-5-nano-2031-01-01"), "openai")


def test_only_the_provider_that_is_asked_is_read() -> None:
    catalogue = load_catalogue()
    assert not catalogue._imported._layers
    catalogue.knows(parse_model_name("gpt-4o"), "openai")
    assert not catalogue._imported._layers
    catalogue.knows(parse_model_name("nobody"), "openai")
    catalogue.knows(parse_model_name("nobody"), "nowhere")
    assert list(catalogue._imported._layers) == ["openai"]
    started = perf_counter()
    assert len(catalogue.imported("openrouter")) > 900
    assert perf_counter() - started < 2  # 0.15 s measured; wide, for a busy machine


def test_a_card_is_found_by_its_id_in_a_ledger() -> None:
    for card in islice(CARDS["openrouter"], 5):
        assert load_catalogue().card(card.id) == card
    assert CATALOGUE.card("nowhere/model/standard/2024-01-01") is None
