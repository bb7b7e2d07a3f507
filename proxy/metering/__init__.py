"""The meter: bytes in, readings out. It opens no socket and reads no clock; who feeds it decides when.

    request                                     reply
    ───────                                     ─────
    endpoints    which row is it?               meter         status, bytes and ending in; one Reading out
    request      model, limits, stream?         ├── decoding      gzip and deflate, on a copy
                 splice include_usage in        ├── whole_reply   a JSON body, kept up to a bound
    estimate     how long is it, roughly?       ├── event_stream  events as they come
                                                │   ├── sse           bytes → events, any split
    json_members where a member stands          │   ├── hiding        an event without its usage
                 in the bytes                   │   └── seen_text     what an estimate would need
                                                └── answer        all that was said, put together
    lenient_json what others send, decoded      reader        JSON → model, usage, text: what a Reader is
    cut_json     text out of half a reply       ├── usage_readers  chat, completions, embeddings
                                                │   └── chat_text, completion_text
                                                ├── responses      and what its hosted tools cost
                                                │   └── responses_text
                                                └── quantities     usage as it is written → disjoint quantities
    where no usage came
    ───────────────────
    reading      a Reading, or an Uncounted one: count() it in a thread, or roughly()
    ├── encodings     the model's encoding, from the tables shipped here
    ├── tally         texts → tokens, in pieces and up to a bound
    └── prompt        a request → tokens
        └── tool_text, image_tokens

Invariants:
- A reading is `reported` only when the upstream said the final numbers, all of them believable. Everything else is
  an estimate with its reason, or presumed, or failed, or pending: a later reply will say it.
- How the bytes were split changes neither the reading nor what the client sees.
- Nothing that comes from outside raises, and nothing grows without a bound.
- What is passed on is the upstream's own bytes; an event is changed only where usage has to be hidden.
"""

from proxy.metering.endpoints import Endpoint, endpoint_of
from proxy.metering.meter import Ending, Meter
from proxy.metering.prompt import exact_prompt_tokens
from proxy.metering.reading import Uncounted
from proxy.metering.records import Reading, RequestFacts
from proxy.metering.request import ask_for_usage, read_request

__all__ = [
    "Ending",
    "Endpoint",
    "Meter",
    "Reading",
    "RequestFacts",
    "Uncounted",
    "ask_for_usage",
    "endpoint_of",
    "exact_prompt_tokens",
    "read_request",
]
