"""Runs in litellm's own environment: cases (JSON) on stdin, its costs in US dollars on stdout, null where it has none."""

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the prices of the package, not of today's main branch

import litellm  # type: ignore[import-not-found]
from litellm.cost_calculator import batch_cost_calculator  # type: ignore[import-not-found]
from litellm.types.utils import (  # type: ignore[import-not-found]
    CompletionTokensDetailsWrapper,
    ModelResponse,
    PromptTokensDetailsWrapper,
    Usage,
)

TODAY = "2026-11-20"
"""It prices at the newest price: cases of an earlier day cannot be put to it."""
SAYABLE = (
    "input",
    "cached_input",
    "cache_write",
    "audio_input",
    "image_input",
    "output",
    "audio_output",
    "image_output",
)
"""Calls of tools it finds in the items of a reply, which a case does not have."""
EMBEDDINGS = ("text-embedding-",)


def cost(case: dict[str, Any], provider: str | None) -> float | None:
    usage: dict[str, int] = case["usage"]
    if case["at"] < TODAY or not set(usage) <= set(SAYABLE):
        return None
    parts = {kind: usage.get(kind, 0) for kind in SAYABLE}
    prompt = sum(parts[kind] for kind in ("input", "cached_input", "cache_write", "audio_input", "image_input"))
    completion = parts["output"] + parts["audio_output"] + parts["image_output"]
    response = ModelResponse(
        model=case["id"],
        usage=Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=PromptTokensDetailsWrapper(
                cached_tokens=parts["cached_input"],
                cache_write_tokens=parts["cache_write"],
                audio_tokens=parts["audio_input"],
                image_tokens=parts["image_input"],
                text_tokens=parts["input"],
            ),
            completion_tokens_details=CompletionTokensDetailsWrapper(
                audio_tokens=parts["audio_output"],
                image_tokens=parts["image_output"],
                text_tokens=parts["output"],
            ),
        ),
    )
    residency = {"data_residency": "eu"} if case["residency"] else {}
    if case["tier"] == "batch":  # its price of batches stands apart
        prompt_cost, completion_cost = batch_cost_calculator(response.usage, case["id"], provider, **residency)
        return float(prompt_cost + completion_cost)
    said: float = litellm.completion_cost(
        completion_response=response,
        model=case["id"],
        custom_llm_provider=provider,
        call_type="embedding" if case["id"].startswith(EMBEDDINGS) else "completion",
        **({"service_tier": case["tier"]} if case["tier"] else {}),
        **residency,
    )
    return said


def main() -> None:
    answers: list[str | None] = []
    for case in json.load(sys.stdin):
        said = None
        for provider in (case["provider"], None):  # it knows some ids under another provider's name
            try:
                said = cost(case, None if "/" in case["id"] else provider)
                break
            except Exception as error:  # its own kinds of error, and KeyErrors
                if os.environ.get("VERBOSE"):
                    print(case["id"], repr(error)[:300], file=sys.stderr)
        answers.append(None if said is None else format(said, ".15f"))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
