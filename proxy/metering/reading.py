"""What an attempt used: a Reading, or what is still to be counted to get one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec.structs import replace

from proxy.metering.encodings import Tokenizer, tokenizer_for
from proxy.metering.estimate import CountTexts, count_texts
from proxy.metering.prompt import count_request
from proxy.metering.reader import CalledName
from proxy.metering.records import Reading
from proxy.metering.tally import Tally
from rates.usage import MAX_QUANTITY, Usage

# What a reply's calls take beyond names and arguments; measured: see tests/data/token_pairs.
_CALL: Final = 7
_PARALLEL_CALL: Final = 14
"""Each of several: they are wrapped once more."""

# Around an answer stand tokens that nobody sees and that are charged; measured likewise. gpt-5 opens a thought even if
# it thinks nothing. The token that ends an answer is charged in /responses alone.
_GPT_5: Final = re.compile(r"gpt-5(?:\.1)?(?!\.?[0-9]|-chat)")
_SINCE_GPT_5_2: Final = re.compile(r"gpt-(?:5\.|[6-9])(?!.*-chat)")
_FRAMES: Final = {
    "chat/completions": ((_GPT_5, 9), (_SINCE_GPT_5_2, 3), (re.compile(r"o[134](?![0-9a-z])"), 13)),
    "responses": ((_GPT_5, 6), (_SINCE_GPT_5_2, 4), (re.compile(r""), 1)),
}


class Written(Protocol):
    """What came of a reply. It does not change any more."""

    def output_tokens(self, count: CountTexts) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """A reading without its numbers: the upstream did not say them all, and nobody has counted yet.

    Nothing in it changes any more, so that another thread may count. `count` takes from under a millisecond to a
    second; `roughly` is quick and needs no table.
    """

    reading: Reading
    """With the usage that the upstream gave on the way, or with none."""
    so_far: bool
    """The upstream gave some: the prompt is in it."""
    endpoint: str
    rough_prompt: int
    request_body: bytes
    """Empty: it cannot be read."""
    written: Written | None
    """None: not even a status came."""

    @property
    def size(self) -> int:
        """Bytes that are kept until it is counted, about: the reply's text, which is bounded, left out."""
        return len(self.request_body)

    def count(self, model: str | None = None) -> Reading:
        """Counted with the encoding of `model`: what the request or the configuration says beyond the reply."""
        tokenizer = tokenizer_for(model or self.reading.model)
        prompt = None
        if not self.so_far and self.request_body:
            prompt = count_request(self.endpoint, self.request_body, tokenizer)
        chosen = prompt is not None and prompt.chosen
        tokens = prompt.tokens if prompt is not None else None
        reading = self._with(tokens, lambda texts: count_output(tokenizer, texts, self.endpoint, chosen=chosen))
        return replace(reading, encoding=tokenizer.encoding, encoding_assumed=tokenizer.assumed)

    def roughly(self) -> Reading:
        return self._with(None, count_texts)

    def _with(self, prompt: int | None, count: CountTexts) -> Reading:
        """Where the upstream gave numbers on the way: at least those."""
        output = min(self.written.output_tokens(count), MAX_QUANTITY) if self.written is not None else 0
        said = self.reading.usage
        if self.so_far:
            usage = replace(said, output=max(said.output, output - said.audio_output))
        else:
            usage = Usage(input=self.rough_prompt if prompt is None else prompt, output=output)
        return replace(self.reading, usage=usage)


def count_output(tokenizer: Tokenizer, texts: Iterable[str], endpoint: str, *, chosen: bool) -> int:
    """Tokens of what a model wrote. `chosen`: it had no choice but to write the arguments of one function."""
    tally, calls = Tally(tokenizer.encode), 0
    for text in texts:
        if isinstance(text, CalledName):
            calls += 1
            if chosen:
                continue
        tally.add(text)
    if calls:
        around = 0 if chosen else _CALL if calls == 1 else _PARALLEL_CALL * calls
    else:
        around = _frame(tokenizer, endpoint) if tally.tokens else 0
    return tally.tokens + around


def _frame(tokenizer: Tokenizer, endpoint: str) -> int:
    if tokenizer.assumed:
        return 0
    frames = _FRAMES.get(endpoint, ())
    return next((tokens for pattern, tokens in frames if pattern.match(tokenizer.base)), 0)
