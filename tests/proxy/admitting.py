"""Admission in one go, for who does not wait at a gate."""

from datetime import datetime

from proxy.admission import NEAR, Admission, Admitted, CountPrompt, Rules
from proxy.budgets import Owner
from proxy.errors import StoreAway
from proxy.metering import RequestFacts
from proxy.store import Refusal


async def admit(
    admission: Admission,
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
    """As `proxy.server.gate` does it. Raises Denied."""
    admitted = admission.prepare(
        rules, entry_id, owner, facts, at, endpoint=endpoint, client_request_id=client_request_id
    )
    if not admitted.waits:
        return admitted
    assert admitted.held is not None
    answer: Refusal | StoreAway | None
    try:
        answer = await admission._store.hold(admitted.held, admitted.accounts, times=NEAR)
    except StoreAway as away:
        answer = away
    return admitted if answer is None else await admission.decide(admitted, facts, answer, count)
