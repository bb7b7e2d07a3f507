"""Admission: may this request pass, and how much money is set aside for it?

What is frozen here holds for the whole request: its id, its start, the budgets that match it and their periods.
"""

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec.structs import replace

from proxy.budgets import MAX_PROMPT_TOKENS, MOST_ACCOUNTS, Account, BudgetBook, Owner, hold_usage
from proxy.config import Config
from proxy.denials import deny, deny_if_strict, deny_unpriced, too_many
from proxy.errors import StoreAway
from proxy.ledger import Opened, kept_id, utc_text
from proxy.metering import RequestFacts
from proxy.store import Refusal, Store, moved_account
from rates import Catalogue, Charge, Found, ModelName, NotPriced, RateCard, Usage, parse_model_name, price

MAX_LEARNED = 4096
NEAR = 4
"""A budget is near its limit for a request whose hold does not fit so many times into what is left."""

CountPrompt = Callable[[str | None], Awaitable[int | None]]
"""Counts the prompt of the request at hand as this model would. None: it cannot be counted."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is decided by configuration: swapped as a whole when it is re-read, so no request sees half of each."""

    config: Config
    catalogue: Catalogue
    book: BudgetBook

    def find(self, name: ModelName, tier: str | None, at: datetime) -> Found:
        """What a model costs at the configured upstream. Raises NotPriced."""
        config = self.config
        return self.catalogue.find(name, provider=config.provider, tier=tier, at=at, resident=config.data_residency)


class Admitted(msgspec.Struct, frozen=True):
    """A request that may pass, and what was frozen for it."""

    entry_id: str
    at: datetime
    owner: Owner
    asked_model: str | None
    accounts: tuple[Account, ...]
    rules: Rules
    opened: Opened | None = None
    """What the journal and the store keep of it; None: it is not metered."""


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


def mint_entry_id(at: datetime) -> str:
    """A UUIDv7: sorts by time, and says nothing else."""
    millis, chance = f"{int(at.timestamp() * 1000):012x}", os.urandom(10).hex()
    variant = _VARIANTS[chance[3]]
    return f"{millis[:8]}-{millis[8:12]}-7{chance[:3]}-{variant}{chance[4:7]}-{chance[7:19]}"


_VARIANTS = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}  # RFC 9562 § 4.1: the bits 10


class Admission:
    """Admits requests against the budgets in the store."""

    def __init__(self, store: Store, learned: Learned) -> None:
        self._store = store
        self._learned = learned

    async def admit(
        self,
        rules: Rules,
        entry_id: str,
        owner: Owner,
        facts: RequestFacts,
        at: datetime,
        *,
        endpoint: str,
        client_request_id: str | None = None,
        count: CountPrompt | None = None,
    ) -> Admitted:
        """Set money aside on every matching budget, or raise Denied. Waits only when a refusing budget matches.

        Far from every limit the cheap estimate of the prompt is held, which is slightly high; near one, `count`.

        A request that passes is held in the store in any case, with no money where no budget matches: so that somebody
        can tell of it when this machine is gone.
        """
        asked = facts.model
        name = parse_model_name(rules.config.models.get(asked, asked)) if asked else None
        try:
            found, unpriced = _card_for_hold(rules, name, facts.service_tier, at), None
        except NotPriced as reason:
            found, unpriced = None, reason
        names = self._possible_names(rules, asked, name, found.card if found else None)
        fine_tuned = name.fine_tuned if name else None
        accounts = rules.book.matching(owner, names, fine_tuned, at)
        if len(accounts) > MOST_ACCOUNTS:
            raise too_many(accounts)
        refusing = next((account for account in accounts if account.budget.refuses), None)
        if unpriced is not None:
            deny_unpriced(unpriced, refusing, rules.config.unpriced)
        usage, charge = _hold(found, facts, rules.config.default_output_tokens)
        certain = tuple(dict.fromkeys((asked, name.text))) if asked and name else ()
        charged = accounts if certain == names else rules.book.matching(owner, certain, fine_tuned, at)
        opened = Opened(
            id=entry_id,
            at=utc_text(at),
            owner=owner.name,
            identity=owner.identity,
            endpoint=endpoint,
            asked_model=asked,
            model=name.text if name else None,
            tier=found.card.tier if found else facts.service_tier or "standard",
            card=found.card.id if found else None,
            provenance=found.provenance if found else None,
            assumed=found is not None and charge is not None and (found.assumed or charge.assumed),
            long_context=charge is not None and charge.long_context,
            usage=usage.as_dict(),
            nanos=charge.nanos if charge else None,
            accounts=tuple(map(moved_account, charged)),
            client_request_id=kept_id(client_request_id),
        )
        admitted = Admitted(entry_id, at, owner, asked, accounts, rules, opened)
        if refusing is None:
            self._store.hold_later(opened, accounts)
            return admitted
        try:
            refusal = await self._store.hold(opened, accounts, times=NEAR)
            if refusal is not None and found is not None:
                opened = await _counted(opened, found, facts, rules, refusal, count)
                admitted = replace(admitted, opened=opened)
                refusal = await self._store.hold(opened, accounts)
        except StoreAway as away:
            deny_if_strict(accounts, away)
            self._store.hold_later(opened, accounts)
        else:
            if refusal is not None:
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

    def _possible_names(
        self, rules: Rules, asked: str | None, name: ModelName | None, card: RateCard | None
    ) -> tuple[str, ...]:
        """Every name that a budget's glob may come to match: asked, mapped, the alias's snapshots, what served lately.

        Some are guesses. They set money aside; what is charged at the end goes by the names that came true.
        """
        if not asked or name is None:
            return ()
        names = dict.fromkeys((asked, name.text))
        if card is not None and not name.fine_tuned and name.snapshot is None:
            names.update(dict.fromkeys(card.snapshots))
        if (served := self._learned.served_for(asked)) is not None:
            names[served] = names[rules.config.models.get(served, served)] = None
        return tuple(names)


def _card_for_hold(rules: Rules, name: ModelName | None, tier: str | None, at: datetime) -> Found:
    if name is None:
        raise NotPriced("the request names no model")
    try:
        return rules.find(name, tier, at)
    except NotPriced:
        if tier is None:
            raise
        # The upstream decides the tier that is charged; an unknown wish must not make the model unpriced.
        return rules.find(name, None, at)


def _hold(found: Found | None, facts: RequestFacts, default_output_tokens: int) -> tuple[Usage, Charge | None]:
    """The prompt's estimate and the most output that the request allows, at the asked model's rate.

    Without a rate only the prompt is known: what it may cost is not.
    """
    if found is None:
        return Usage(input=max(0, min(facts.prompt_tokens, MAX_PROMPT_TOKENS))), None
    most = found.card.max_output_tokens
    output = (most or default_output_tokens) if facts.max_output_tokens is None else facts.max_output_tokens
    output = output if most is None else min(output, most)
    usage = hold_usage(found.card, facts.prompt_tokens, output, facts.n)
    return usage, price(usage, found.card)


async def _counted(
    opened: Opened, found: Found, facts: RequestFacts, rules: Rules, refusal: Refusal, count: CountPrompt | None
) -> Opened:
    """The same request with its prompt counted, where that costs less than the estimate.

    Raises Denied where not even its output fits: whoever has used a budget up must not keep others' counts waiting.
    """
    default = rules.config.default_output_tokens
    _, least = _hold(found, replace(facts, prompt_tokens=0), default)
    assert least is not None  # there is a card
    if not refusal.leaves(least.nanos):
        raise deny(Refusal.of(refusal.account, least.nanos, refusal.spent, refusal.held))
    tokens = await count(opened.model) if count is not None else None
    if tokens is None or tokens >= facts.prompt_tokens:
        return opened
    usage, charge = _hold(found, replace(facts, prompt_tokens=tokens), default)
    assert charge is not None
    return replace(
        opened,
        usage=usage.as_dict(),
        nanos=charge.nanos,
        long_context=charge.long_context,
        assumed=found.assumed or charge.assumed,
    )
