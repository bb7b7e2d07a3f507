"""Which modules are compiled where a C compiler is at hand, and when plain Python runs all the same.

`compiling.py`, at the root of the checkout, has mypyc compile them from the source that stands here: the same code, as
one shared library and a small extension module beside each source, which Python takes first. They know each other's
C structs, so all of them run compiled or none does.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

MODULES = (
    "proxy/admission.py",
    "proxy/budgets/account.py",
    "proxy/budgets/budget.py",
    "proxy/budgets/glob.py",
    "proxy/budgets/hold.py",
    "proxy/budgets/owner.py",
    "proxy/budgets/period.py",
    "proxy/deadlines.py",
    "proxy/http1/alike.py",
    "proxy/http1/bodies.py",
    "proxy/http1/fields.py",
    "proxy/http1/heads.py",
    "proxy/journal/frames.py",
    "proxy/ledger/forms.py",
    "proxy/ledger/texts.py",
    "proxy/metering/answer.py",
    "proxy/metering/chat_text.py",
    "proxy/metering/decoding.py",
    "proxy/metering/endpoints.py",
    "proxy/metering/estimate.py",
    "proxy/metering/event_stream.py",
    "proxy/metering/hiding.py",
    "proxy/metering/json_members.py",
    "proxy/metering/lenient_json.py",
    "proxy/metering/meter.py",
    "proxy/metering/quantities.py",
    "proxy/metering/reading.py",
    "proxy/metering/request.py",
    "proxy/metering/responses.py",
    "proxy/metering/responses_text.py",
    "proxy/metering/seen_text.py",
    "proxy/metering/sse.py",
    "proxy/metering/tally.py",
    "proxy/metering/usage_readers.py",
    "proxy/metering/whole_reply.py",
    "proxy/metrics.py",
    "proxy/plans.py",
    "proxy/server/caller.py",
    "proxy/server/connection.py",
    "proxy/server/desk.py",
    "proxy/server/envelope.py",
    "proxy/server/exchange.py",
    "proxy/server/forward.py",
    "proxy/server/gate.py",
    "proxy/server/headers.py",
    "proxy/server/listener.py",
    "proxy/server/open_requests.py",
    "proxy/server/passage.py",
    "proxy/server/paths.py",
    "proxy/server/request.py",
    "proxy/server/turn_end.py",
    "proxy/server/under_way.py",
    "proxy/settlement.py",
    "proxy/store/asking.py",
    "proxy/store/finished.py",
    "proxy/store/operations.py",
    "proxy/store/packing.py",
    "proxy/store/pending.py",
    "proxy/tallies.py",
    "proxy/terms.py",
    "proxy/upstream/attempt.py",
    "proxy/upstream/connection.py",
    "proxy/upstream/pool.py",
    "rates/money.py",
    "rates/whole_rates.py",
)
"""What a request passes through, less what gains nothing by it. In none of them a msgspec.Struct: mypyc drops its types
and what it was made with (frozen, omit_defaults, …)."""

LIBRARY = "taximeter__mypyc"
_ROOT = Path(__file__).parent.parent


def choose() -> str:
    """Before any of the modules is imported: "compiled" or "plain Python", whichever it is to be.

    Plain Python it is where nothing is compiled, with TAXIMETER_PURE=1, and in a checkout whose sources have changed
    since: what was edited is what runs.
    """
    library = _ROOT / (LIBRARY + EXTENSION_SUFFIXES[0])
    if os.environ.get("TAXIMETER_PURE") != "1" and library.exists():
        edited = _edited_since(library.stat().st_mtime_ns)
        if edited is None:
            return "compiled"
        print(f"taximeter: {edited} is newer than its compiled form: plain Python runs", file=sys.stderr)  # noqa: T201
        os.environ["TAXIMETER_PURE"] = "1"  # for the workers; and this line comes once
    for folder in {str((_ROOT / module).parent) for module in MODULES}:
        sys.path_importer_cache[folder] = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))
    return "plain Python"


def _edited_since(moment: int) -> str | None:
    # What is installed is not edited, and its files have the times of their unpacking.
    if not (_ROOT / "pyproject.toml").exists():
        return None
    listed = (*MODULES, "proxy/compiled.py")
    return next((module for module in listed if (_ROOT / module).stat().st_mtime_ns > moment), None)
