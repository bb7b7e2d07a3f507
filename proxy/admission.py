"""Admission: may this request pass, and how much money is set aside for it?

What is frozen here holds for the whole request: its id, its start, the budgets that match it and their periods.
"""

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from proxy.budgets import Account, Owner
from proxy.denials import deny, deny_if_strict
from proxy.errors import StoreAway
from proxy.ledger import Opened, OpenedText, kept_id, utc_text
from proxy.metering import RequestFacts
from proxy.plans import Plan, Rules
from proxy.store import Refusal, Store, Waiter

__all__ = ["NEAR", "Admission", "Admitted", "CountPrompt", "Learned", "Plan", "Rules", "mint_entry_id"]

MAX_LEARNED = 4096
NEAR = 4
"""A budget is near its limit for a request whose hold does not fit so many times into what is left."""

CountPrompt = Callable[[str | None], Awaitable[int | None]]
"""Counts the prompt of the request at hand as this model would. None: it cannot be counted."""


class Admitted:
    """A request that may pass, and what was frozen for it."""

    __slots__ = ("accounts", "asked_model", "at", "at_text", "entry_id", "held", "owner", "plan", "rules", "waits")

    def __init__(
        self,
        entry_id: str,
        at: datetime,
        owner: Owner,
        asked_model: str | None,
        accounts: tuple[Account, ...],
        rules: Rules,
        held: Opened | OpenedText | None = None,
        plan: Plan | None = None,
        at_text: str = "",
        waits: bool = False,
    ) -> None:
        self.entry_id = entry_id
        self.at = at
        self.owner = owner
        self.asked_model = asked_model
        self.accounts = accounts
        self.rules = rules
        self.held = held
        """What the journal and the store keep of it; None: it is not metered."""
        self.plan = plan
        """Of requests like it; None: nothing was worked out before."""
        self.at_text = at_text
        """Its start as entries carry it; empty: nobody wrote it yet."""
        self.waits = waits
        """A budget may refuse it: it passes when the store has said so, or is away."""

    def holding(self, held: OpenedText) -> "Admitted":
        """The same with another hold."""
        return Admitted(
            self.entry_id,
            self.at,
            self.owner,
            self.asked_model,
            self.accounts,
            self.rules,
            held,
            self.plan,
            self.at_text,
            self.waits,
        )

    @property
    def opened(self) -> Opened | None:
        held = self.held
        return held.opened if isinstance(held, OpenedText) else held


class Learned:
    """Asked → served names seen lately, so that a budget on `gpt-4o-2024-*` holds money for a call of `gpt-4o`."""

    def __init__(self) -> None:
        self._served: OrderedDict[str, str] = OrderedDict()

    def note(self, asked: str | None, served: str | None) -> None:
        if not asked or not served or asked == served:
            return
        self._served[asked] = served
        self._served.move_to_end(asked)
        if len(self._served) > MAX_LEARNED:
            self._served.popitem(last=False)

    def served_for(self, asked: str) -> str | None:
        return self._served.get(asked)


class _Mint:
    """Makes entry ids: UUIDv7, which sort by time and say nothing else.

    Random parts are made many at a time: a call of the system for each would cost more than the rest. A child process
    throws away what its parent had: none is used twice.
    """

    __slots__ = ("_millis", "_start", "_tails")

    def __init__(self) -> None:
        self._millis = -1
        self._start = ""
        self._tails: list[str] = []
        os.register_at_fork(after_in_child=self._tails.clear)

    def mint(self, at: datetime) -> str:
        millis = int(at.timestamp() * 1000)
        if millis != self._millis:
            self._millis = millis
            digits = f"{millis:012x}"
            self._start = f"{digits[:8]}-{digits[8:]}-7"
        if not self._tails:
            self._make_tails()
        return self._start + self._tails.pop()

    def _make_tails(self) -> None:
        """What follows the version: the variant and 74 random bits."""
        digits = os.urandom(10 * _AT_A_TIME).hex()
        for at in range(0, 20 * _AT_A_TIME, 20):
            variant = _VARIANTS[digits[at + 3]]
            self._tails.append(f"{digits[at : at + 3]}-{variant}{digits[at + 4 : at + 7]}-{digits[at + 7 : at + 19]}")


_AT_A_TIME: Final = 64
_VARIANTS: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}  # RFC 9562 § 4.1: the bits 10
mint_entry_id = _Mint().mint


class Admission:
    """Admits requests against the budgets in the store."""

    def __init__(self, store: Store, learned: Learned) -> None:
        self._store = store
        self._learned = learned

    def prepare(
        self,
        rules: Rules,
        entry_id: str,
        owner: Owner,
        facts: RequestFacts,
        at: datetime,
        *,
        endpoint: str,
        client_request_id: str | None = None,
    ) -> Admitted:
        """Admit at once, or say that the store has to be asked (`waits`, where a budget may refuse). Raises Denied.

        Who does not wait is held in the store in any case, with no money where no budget matches, so that somebody can
        tell of it when this machine is gone; so is a stream whose money was set aside ahead. Who waits, `ask` holds.

        Far from every limit the cheap estimate of the prompt is held, slightly high; near one, `decide` has it counted.
        """
        asked = facts.model
        served = self._learned.served_for(asked) if asked is not None else None
        plan = rules.plan(owner, asked, facts.service_tier, endpoint, served, at)
        began, accounts = utc_text(at), plan.accounts
        held = plan.opened(entry_id, began, facts, facts.prompt_tokens, kept_id(client_request_id))
        waits = plan.refusing is not None
        if not waits:
            self._store.hold_later(held, accounts)
        elif facts.stream:  # somebody looks at it: what its first token needs is worth an advance
            waits = not self._store.hold_ahead(held, accounts)
        return Admitted(entry_id, at, owner, asked, accounts, rules, held, plan, began, waits)

    def ask(self, admitted: Admitted, waiter: Waiter) -> StoreAway | None:
        """Ask the store for a request that waits. What it says is for `decide`, unless it just holds.

        Returns the error, and calls nobody, where the store is away already.
        """
        assert admitted.held is not None  # who waits is metered
        return self._store.ask_hold(admitted.held, admitted.accounts, waiter=waiter, times=NEAR)

    def give_up(self, admitted: Admitted) -> None:
        """Who has asked has left."""
        self._store.give_up(admitted.entry_id)

    async def decide(
        self, admitted: Admitted, facts: RequestFacts, answer: Refusal | StoreAway, count: CountPrompt | None
    ) -> Admitted:
        """What becomes of a request that waits when the store did not just hold it. Raises Denied.

        Refused, it may be near a limit only: its prompt is counted, and the store is asked a second time. What streams
        have set aside ahead is not in its way.
        """
        away: StoreAway | None = None
        refusal: Refusal | None = None
        if isinstance(answer, StoreAway):
            away = answer
        else:
            ahead = self._store.clear_ahead(admitted.accounts)
            refusal = answer = replace(answer, held=max(0, answer.held - ahead)) if ahead else answer
            if admitted.plan is not None and admitted.plan.is_priced:
                admitted = await _counted(admitted, admitted.plan, facts, answer, count)
                assert admitted.held is not None
                try:
                    refusal = await self._store.hold(admitted.held, admitted.accounts)
                except StoreAway as error:
                    away = error
        if away is not None:
            deny_if_strict(admitted.accounts, away)
            assert admitted.held is not None
            self._store.hold_later(admitted.held, admitted.accounts)
        elif refusal is not None:
            raise deny(refusal)
        return admitted

    async def admit_unmetered(
        self, rules: Rules, entry_id: str, owner: Owner, at: datetime, *, spends: bool
    ) -> Admitted:
        """A request that is not metered: it passes unless it spends and a refusing budget is used up."""
        accounts = rules.book.matching(owner, (), None, at)
        refusing = [account for account in accounts if account.budget.refuses]
        if spends and refusing:
            try:
                refusal = await self._store.check(refusing)
            except StoreAway as away:
                deny_if_strict(accounts, away)
            else:
                if refusal is not None:
                    raise deny(refusal)
        return Admitted(entry_id, at, owner, None, accounts, rules)


async def _counted(
    admitted: Admitted, plan: Plan, facts: RequestFacts, refusal: Refusal, count: CountPrompt | None
) -> Admitted:
    """The same request with its prompt counted, where that costs less than the estimate.

    Raises Denied where not even its output fits: whoever has used a budget up must not keep others' counts waiting.
    """
    opened = admitted.opened
    assert opened is not None  # it was held
    least = plan.nanos(facts, 0)
    if not refusal.leaves(least):
        raise deny(Refusal.of(refusal.account, least, refusal.spent, refusal.held))
    tokens = await count(opened.model) if count is not None else None
    if tokens is None or tokens >= facts.prompt_tokens:
        return admitted
    held = plan.opened(opened.id, opened.at, facts, tokens, opened.client_request_id)
    return admitted.holding(held)
