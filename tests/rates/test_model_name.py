from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rates.model_name import ModelName, parse_model_name

HEX = "0123456789abcdef0123456789abcdef"
BASES = (
    *("gpt-4o", "gpt-4o-mini", "gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14", "o4-mini-2025-04-16"),
    *("gpt-3.5-turbo-0125", "davinci-002", "GPT-4o"),
)
# What may stand between the colons: anything but a colon, and on purpose what looks like a part of another id.
lookalikes = st.sampled_from(
    ("ft", "ft-", "gpt-4o", "gpt-4o-mini-2024-07-18", "4.1", "ckpt-step-1", "2024-07-18", "openai/gpt-4o", "")
)
words = st.text(ascii_letters + digits + "-._ ", max_size=20)
fields = st.one_of(lookalikes, words, st.text(max_size=10).map(lambda text: text.replace(":", "")))
prefixes = st.sampled_from((None, "openai", "azure", "openrouter/openai", "litellm_proxy/azure"))


def printed(name: ModelName) -> str:
    """The grammar, written the other way round."""
    prefix = f"{name.prefix}/" if name.prefix else ""
    variant = f":{name.variant}" if name.variant is not None else ""
    match name.form:
        case "ft":
            checkpoint = f":{name.checkpoint}" if name.checkpoint else ""
            parts = [part for part in (name.organisation, name.suffix, name.id) if part is not None]
            body = ":".join(["ft", name.base, *parts]) + checkpoint
        case "azure":
            body = f"{name.base}.ft-{name.id}"
        case "legacy":
            body = f"{name.base}:ft-{name.organisation}-{name.id}"
        case _:
            body = name.base
    return prefix + body + variant


def folded(name: ModelName) -> str:
    """What `printed` must give: the text, but for the case of its base."""
    return (f"{name.prefix}/" if name.prefix else "") + name.canonical


@given(st.text())
def test_any_text_is_a_name(text: str) -> None:
    name = parse_model_name(text)
    assert str(name) == name.text == text
    assert printed(name) == folded(name)
    again = parse_model_name(folded(name))
    assert (again.canonical, again.base, again.form, again.variant) == (
        name.canonical,
        name.base,
        name.form,
        name.variant,
    )


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                (
                    "ft:",
                    ":",
                    "::",
                    "/",
                    "openai/",
                    "azure/",
                    ".ft-",
                    HEX,
                    "ftchkpt-",
                    ":ckpt-step-7",
                    ":ft-acme-2023-04-28-18-40-02",
                    *BASES,
                )
            ),
            words,
        ),
        max_size=8,
    )
)
def test_scraps_of_ids_are_names_too(scraps: list[str]) -> None:
    text = "".join(scraps)
    name = parse_model_name(text)
    assert name.text == text
    assert printed(name) == folded(name)
    assert len(folded(name)) == len(text)
    assert folded(name).lower() == text.lower()


@given(prefixes, st.sampled_from(BASES), fields, fields, fields, st.none() | st.integers(0, 9999))
def test_a_fine_tune_is_a_fine_tune_of_its_second_field(
    prefix: str | None, base: str, organisation: str, suffix: str, identity: str, step: int | None
) -> None:
    text = f"ft:{base}:{organisation}:{suffix}:{identity}"
    whole = (f"{prefix}/" if prefix else "") + text + (f":ckpt-step-{step}" if step is not None else "")

    name = parse_model_name(whole)

    assert name.fine_tuned
    assert (name.base, name.organisation, name.suffix, name.id) == (base.lower(), organisation, suffix, identity)
    assert name.checkpoint == (f"ckpt-step-{step}" if step is not None else None)
    assert name.variant is None
    assert name.without_checkpoint == f"ft:{base.lower()}:{organisation}:{suffix}:{identity}"
    assert name.prefix == prefix
    assert name.provider == (prefix.rpartition("/")[2] if prefix else None)


@given(st.text(ascii_letters + digits + "-.", min_size=1, max_size=20))
def test_an_unknown_prefix_is_part_of_the_base(prefix: str) -> None:
    name = parse_model_name(f"{prefix}/gpt-4o")
    assert name.base == ("gpt-4o" if prefix in ("openai", "azure") else f"{prefix}/gpt-4o".lower())


@pytest.mark.parametrize(
    ("text", "base", "base_model", "snapshot"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18", "gpt-4o-mini", "2024-07-18"),
        ("GPT-4o-Mini", "gpt-4o-mini", "gpt-4o-mini", None),
        ("gpt-4-0613", "gpt-4-0613", "gpt-4", "0613"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo-0125", "gpt-3.5-turbo", "0125"),
        ("gpt-35-turbo-0125", "gpt-35-turbo-0125", "gpt-35-turbo", "0125"),
        ("gpt-3.5-turbo-16k-0613", "gpt-3.5-turbo-16k-0613", "gpt-3.5-turbo-16k", "0613"),
        ("gpt-4-1399", "gpt-4-1399", "gpt-4-1399", None),
        ("davinci-002", "davinci-002", "davinci-002", None),
        ("acme-0613", "acme-0613", "acme-0613", None),
        ("gpt-4o-2024-13-01", "gpt-4o-2024-13-01", "gpt-4o-2024-13-01", None),
        ("gpt-4o-2024-08-06-extra", "gpt-4o-2024-08-06-extra", "gpt-4o-2024-08-06-extra", None),
        ("ft:gpt-4o-mini:acme::7p4l", "gpt-4o-mini", "gpt-4o-mini", None),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123", "gpt-4o-mini-2024-07-18", "gpt-4o-mini", "2024-07-18"),
        (f"gpt-4o-2024-08-06.ft-{HEX}", "gpt-4o-2024-08-06", "gpt-4o", "2024-08-06"),
        ("davinci:ft-acme-2023-04-28-18-40-02", "davinci", "davinci", None),
        ("", "", "", None),
        ("\u212agpt", "\u212agpt", "\u212agpt", None),  # the Kelvin sign is no k
    ],
)
def test_base_and_snapshot(text: str, base: str, base_model: str, snapshot: str | None) -> None:
    name = parse_model_name(text)
    assert (name.base, name.base_model, name.snapshot) == (base, base_model, snapshot)


@pytest.mark.parametrize(
    ("text", "form", "provider", "variant"),
    [
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123", "ft", None, None),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123:free", "ft", None, "free"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123:ckpt-step-8:free", "ft", None, "free"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123:ckpt-step-", "ft", None, "ckpt-step-"),
        ("azure/ft:gpt-4o-mini-2024-07-18:acme::abc123", "ft", "azure", None),
        (f"gpt-4o.ft-{HEX}", "azure", "azure", None),
        (f"gpt-4o.ft-{HEX}0", "plain", None, None),
        (f"gpt-4o.ft-{HEX}:free", "azure", "azure", "free"),
        ("ftchkpt-0a1b", "azure-checkpoint", "azure", None),
        ("davinci:ft-acme-2023-04-28-18-40-02", "legacy", None, None),
        ("davinci:ft-acme", "plain", None, "ft-acme"),
        ("gpt-4o:free", "plain", None, "free"),
        ("openai/gpt-4o", "plain", "openai", None),
        ("FT:gpt-4o:acme::x", "plain", None, "gpt-4o:acme::x"),
        ("acme/ft:gpt-4o:acme::x", "plain", None, "gpt-4o:acme::x"),
    ],
)
def test_form(text: str, form: str, provider: str | None, variant: str | None) -> None:
    name = parse_model_name(text)
    assert (name.form, name.provider, name.variant) == (form, provider, variant)
    assert name.fine_tuned == (form != "plain")


def test_a_very_long_text_is_a_name_too() -> None:
    text = "ft:gpt-4o:" + "x" * 100_000
    assert parse_model_name(text).text == text
