"""The journal: a worker's own durable log of the requests that it opened and finished.

One directory a writer, `<data_dir>/journal/<writer>/`: a lock that is held as long as the writer lives, and numbered
segments. Each segment begins with a BASE record (what was open, and the last number, before it), so that earlier ones
may go once the store has confirmed what they hold. Then come OPEN, DONE and DROP records as they happen.

`frames` says how a record lies in a file, `segment` writes one file, `appending` what is written when, `journal` is
the living journal, and `adoption` reads what a dead writer left. Nothing here knows what a body means.
"""

from proxy.journal.adoption import Adopted, adopt, orphans
from proxy.journal.journal import Journal

__all__ = ["Adopted", "Journal", "adopt", "orphans"]
