"""What `taximeter ledger verify` found, in words."""

from proxy.reports.amounts import counted, dollars
from proxy.store.verify import Difference, Verdict


def verdict_json(verdict: Verdict) -> dict[str, object]:
    first = verdict.difference
    return {
        "ok": first is None,
        "lines": verdict.lines,
        "corrections": verdict.corrections,
        "trimmed_lines": verdict.trimmed_lines,
        "accounts": verdict.accounts,
        "skipped_accounts": verdict.skipped,
        "holds": verdict.holds,
        "days": verdict.days,
        "difference": None
        if first is None
        else {
            "what": first.what,
            "where": first.where,
            "expected": first.expected,
            "found": first.found,
            "reason": first.reason,
        },
    }


def verdict_text(verdict: Verdict) -> str:
    """One line."""
    if verdict.difference is not None:
        return f"The first difference: {_told(verdict.difference)}"
    kept = f", {verdict.trimmed_lines:,} trimmed" if verdict.trimmed_lines else ""
    skipped = f" ({verdict.skipped:,} of ended periods not compared)" if verdict.skipped else ""
    return (
        f"Budgets and sums follow from the ledger: {counted(verdict.lines, 'line')}, {verdict.corrections:,} of them "
        f"corrections{kept}; {counted(verdict.accounts, 'account')}{skipped}, {counted(verdict.holds, 'hold')}, "
        f"{counted(verdict.days, 'day')}."
    )


def _told(first: Difference) -> str:
    match first.what:
        case "line" | "number":
            return f"{first.where}: {first.reason}"
        case "spent":
            found = "is gone" if first.found is None else f"has spent {_amount(first.found)}"
            return f"account {first.where} {found}; by the ledger it is {_amount(first.expected)}"
        case "held":
            found = "is gone" if first.found is None else f"holds {_amount(first.found)}"
            return f"account {first.where} {found}; by the holds under way it is {_amount(first.expected)}"
        case _:
            found = "is not there" if first.found is None else f"is {first.found}"
            return f"day sum {first.where} {found}; by the ledger it is {first.expected}"


def _amount(nanos: int | None) -> str:
    return f"{dollars(nanos)} ({nanos} nanos)"
