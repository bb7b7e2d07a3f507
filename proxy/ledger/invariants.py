"""What is true of every line of the ledger, whoever wrote it."""

from proxy.ledger.entry import LedgerEntry


def problem_of(line: LedgerEntry) -> str | None:
    """The first invariant that a line breaks, as words that follow "it"; None where it keeps them all."""
    sign = line.requests
    cost = line.cost_nanos
    if sign not in (1, -1):
        return f"counts {sign} requests"
    if sign == -1 and line.line == "entry":
        return "takes back, and is no correction"
    if (cost is None) != (line.status == "unpriced"):
        return f"is {line.status} and costs {'nothing known' if cost is None else f'{cost} nanos'}"
    if line.status == "failed" and cost:
        return f"failed and costs {cost} nanos"
    if cost is not None and cost * sign < 0:
        return f"costs {cost} nanos"
    for moved in line.moved:
        if moved.nanos != (cost or 0):
            return f"costs {cost or 0} nanos and moved {moved.nanos} in {moved.period}"
    for kind, quantity in line.usage.items():
        if quantity * sign < 0:
            return f"has {quantity} {kind}"
    return None
