"""What a dead writer has left, finished in its name: its journal says what, and the store how far it had come.

Rule 2: what was opened and has no end gets a presumed one, journalled before it is sent. Everything after that is what
a living writer does on a new connection.
"""

import logging
from collections.abc import Callable

import msgspec

from proxy.journal import Adopted
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.opened import Opened, presumed
from proxy.store.finished import Charge, Numbered
from proxy.store.pending import Pending, Stored

log = logging.getLogger(__name__)
_opened = msgspec.json.Decoder(Opened).decode


def uncounted_entries(adopted: Adopted) -> list[LedgerEntry]:
    """What was charged to the end of the journal, but stands in no metric: its worker was killed in the same moment."""
    records = (Numbered.of_body(*each) for each in adopted.finished if each[0] > adopted.counted)
    return [entry for record in records if (entry := record.entry) is not None]


class Inheritance:
    """Puts into `pending` what the journal says. `on_presumed` is called when a presumed entry was applied."""

    def __init__(
        self, adopted: Adopted, pending: Pending, reason: str, on_presumed: Callable[[LedgerEntry], object]
    ) -> None:
        self._adopted = adopted
        self._pending = pending
        self._reason = reason
        self._on_presumed = on_presumed
        self.is_read = False
        """The store was asked, and everything open has got its end."""
        number = adopted.finished[0][0] - 1 if adopted.finished else adopted.journal.last_number
        pending.durable = pending.counted = number  # what came before was confirmed, or it would still be here
        for next_number, entry_id, body in adopted.finished:
            while (number := number + 1) < next_number:
                log.error("record %d of the journal of %s cannot be read and is left out", number, adopted.writer)
                pending.append(Numbered.unreadable(number))
            pending.append(Numbered.of_body(next_number, entry_id, body))

    def read(self, stored: Stored) -> None:
        """The store has answered: what is open gets its end now, unless the store knows of a real one.

        It may, where the journal does not say everything: because it is damaged, or because the machine crashed before
        the last of it was on disk. Then what the store neither holds nor has presumed was settled.
        """
        adopted = self._adopted
        says_all = adopted.is_whole and stored.number <= adopted.journal.last_number
        adopted.journal.continue_after(stored.number)
        while adopted.open:
            entry_id, body = next(iter(adopted.open.items()))
            if says_all or entry_id in stored.holds or entry_id in stored.presumed:
                self._presume(body)
            else:
                adopted.journal.drop(entry_id)
            del adopted.open[entry_id]
        self.is_read = True

    def _presume(self, body: bytes) -> None:
        opened = _opened(body)
        entry = presumed(opened, self._reason)
        charge = Charge(entry, opened.accounts)
        charge.on_charged = lambda: self._on_presumed(entry)
        self._pending.append(charge)
