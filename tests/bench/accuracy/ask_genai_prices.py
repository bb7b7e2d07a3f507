"""Runs in genai-prices' own environment: cases (JSON) on stdin, its costs in US dollars on stdout, null where none."""

import json
import os
import sys
from datetime import datetime
from decimal import Decimal
from typing import Any

from genai_prices import Usage, calc_price

TOTALS = {
    "input_tokens": (
        *("input", "cached_input", "cache_write", "audio_input", "cached_audio_input"),
        *("image_input", "cached_image_input"),
    ),
    "cache_read_tokens": ("cached_input", "cached_audio_input", "cached_image_input"),
    "cache_write_tokens": ("cache_write",),
    "input_audio_tokens": ("audio_input", "cached_audio_input"),
    "cache_audio_read_tokens": ("cached_audio_input",),
    "input_image_tokens": ("image_input", "cached_image_input"),
    "cache_image_read_tokens": ("cached_image_input",),
    "output_tokens": ("output", "audio_output", "image_output"),
    "output_audio_tokens": ("audio_output",),
    "output_image_tokens": ("image_output",),
    "web_searches": ("web_search_calls", "web_search_preview_calls"),
    "storage_searches": ("file_search_calls",),
}
SAYABLE = {kind for kinds in TOTALS.values() for kind in kinds}
CONTEXT = {
    "batch": {"processing": "batch"},
    **{tier: {"service_tier": tier} for tier in ("default", "flex", "priority", "fast", "scale", "auto")},
}


def cost(case: dict[str, Any]) -> Decimal | None:
    usage: dict[str, int] = case["usage"]
    if case["residency"] or not set(usage) <= SAYABLE:
        return None  # it has no word for these
    provider, model = case["provider"], case["id"]
    for known in ("openai", "azure"):
        if f"/{model}".find(f"/{known}/") >= 0:
            provider, model = known, model.rpartition(f"{known}/")[2]
    counts = {key: sum(usage.get(kind, 0) for kind in kinds) for key, kinds in TOTALS.items()}
    said = calc_price(
        Usage(**{key: number for key, number in counts.items() if number or key in ("input_tokens", "output_tokens")}),
        model_ref=model,
        provider_id=provider,
        genai_request_timestamp=datetime.fromisoformat(case["at"]),
        price_context=CONTEXT.get(
            case["tier"], {"service_tier": case["tier"]} if case["tier"] not in ("", "standard") else None
        ),
    )
    return said.total_price


def main() -> None:
    answers: list[str | None] = []
    for case in json.load(sys.stdin):
        try:
            said = cost(case)
        except Exception as error:  # LookupError, ValueError
            if os.environ.get("VERBOSE"):
                print(case["id"], repr(error)[:300], file=sys.stderr)
            said = None
        answers.append(None if said is None else format(said, "f"))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
