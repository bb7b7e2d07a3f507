"""What the demo ends with: the report from the store, held against the upstream's own books."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from proxy.cli.budgets import read_uses
from proxy.cli.demo_traffic import City, Ride
from proxy.cli.demo_upstream import Served
from proxy.cli.reading import with_store
from proxy.cli.report import days
from proxy.ledger.sums import SumRow
from proxy.reports.amounts import count, dollars
from proxy.reports.budget_use import BudgetUse, budgets_json
from proxy.reports.render import show
from proxy.reports.sheet import budget_sheet, spending_sheet
from proxy.reports.spending import Report, group
from rates.catalogue import Catalogue, load_catalogue
from rates.charge import price
from rates.model_name import parse_model_name
from rates.money import Nanos, usd_text
from rates.usage import Usage

SETTLE_SECONDS = 10.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Result:
    """`by_hand` is what the upstream's own log costs at the published rates, added up without the store."""

    ride: Ride
    at: datetime
    by_model: Report
    by_kind: Report
    uses: list[BudgetUse]
    served: int
    by_hand: Nanos

    @property
    def equal(self) -> bool:
        return self.by_model.total.cost_nanos == self.by_hand and self.by_model.total.requests == self.served

    def show(self) -> None:
        since, until = days(None, None, self.at.date())
        print("\nCost by model, from the store:\n")
        show(spending_sheet(self.by_model, since, until))
        print("\nFine-tuned against base:\n")
        show(spending_sheet(self.by_kind, since, until))
        print("\nBudgets:\n")
        show(budget_sheet(self.uses, self.at))
        print(f"\n{self._verdict()}")

    def _verdict(self) -> str:
        upstream = f"{count(self.served)} requests for {dollars(self.by_hand)}"
        if self.equal:
            return f"The report's total equals the upstream's own log, to the nano-dollar: {upstream}."
        total = self.by_model.total
        told = f"{count(total.requests)} requests for {dollars(total.cost_nanos)}"
        return f"The report's total ({told}) does NOT equal the upstream's own log ({upstream})."

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": {"sent": self.ride.sent, "served": self.served, "refused": self.ride.refused},
            "alert": {
                "budget": self.ride.budget,
                "crossed_after_requests": self.ride.crossed_at,
                "used_ratio": self.ride.crossed_ratio,
            },
            "first_refusal": self.ride.first_refusal,
            "report": self.by_model.as_json(),
            "fine_tuned": self.by_kind.as_json(),
            **budgets_json(self.uses),
            "upstream": {"requests": self.served, "cost_usd": usd_text(self.by_hand), "cost_nanos": self.by_hand},
            "equal": self.equal,
        }


def read_back(city: City, ride: Ride) -> Result:
    """The report of everything that was served. Blocks: a request's charge may come a moment after its last byte."""
    served = city.upstream.served
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = datetime.now(UTC)
        rows = _rows(city, now)
        uses = read_uses(city.config, now)
        settled = sum(row.requests for row in rows) >= len(served) and not any(use.held for use in uses)
        if settled or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    catalogue = load_catalogue()
    return Result(
        ride=ride,
        at=now,
        by_model=group(rows, ("model",)),
        by_kind=group(rows, ("fine_tuned",)),
        uses=uses,
        served=len(served),
        by_hand=sum(_cost(each, catalogue, now) for each in served),
    )


def _rows(city: City, now: datetime) -> list[SumRow]:
    since, until = days(None, None, now.date())
    return with_store(city.config, lambda store: store.read_sums(since, until))


def _cost(served: Served, catalogue: Catalogue, at: datetime) -> Nanos:
    """One line of the upstream's log at the published rate. Its prompt tokens hold the cached ones."""
    usage = Usage(
        input=served.prompt_tokens - served.cached_tokens,
        cached_input=served.cached_tokens,
        output=served.completion_tokens,
    )
    card = catalogue.find(parse_model_name(served.model), provider="openai", tier=None, at=at).card
    return price(usage, card).nanos
