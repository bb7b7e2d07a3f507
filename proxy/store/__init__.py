"""The store: budgets, sums, ledger and caller keys over the Redis protocol. No redis error leaves this room.

store        what the rest of the program talks to
connection   the one ordered connection of a process: batches, reconnecting
flow         what flows over it while all is well, a batch at a time; `channel` writes and reads that
asking       who waits for an answer, and what it may be
record       what it asks of the journal
advances     what streams will hold, set aside ahead
unkept       what was sent before it was held, and may have to be brought to disk
pending      what waits for it, what must be sent again, and what a new connection mends
durable      what of it the store will not lose
adoption     the same for a writer that has died, from its journal
sweeping     what nobody will finish becomes presumed entries
operations   what travels on it, what the answers mean, and where each rule of the protocol is held
finished     of these, the finished requests, which the journal numbers
packing      entries and accounts as scripts and journal keep them
apply.lua    the script that applies a batch; `script` calls it
wire         one connection: handshake, commands, errors as StoreAway or StoreRefused
address      a URL: plain, TLS, unix socket, Sentinel, Cluster
reads        standings and sums, on a connection of its own
ledger       the ledger's stream, page by page
ledger_trim  its oldest lines become checkpoint sums (trim.lua)
ledger_reprice  corrections, in batches (reprice.lua)
verify       adds everything up again, while the store goes on working (cut.lua)
caller_keys  taximeter's own keys, hashed
raises       limits that are raised for a time, and the audit stream
backfill     counts the ledger's lines for a budget that came later
told         what was told of thresholds
leases       what one process at a time may do
keys         the names of all keys
embedded     the Valkey that starts with taximeter where no URL is given; `server` is the program
damage       what becomes of its file where that does not load
birth        which store this proxy knew: one that has lost that is found out
aside        what the store rejects for ever, kept in the data directory
"""

from proxy.data_dir import DataDir
from proxy.store.adoption import uncounted_entries
from proxy.store.asking import Refusal, Waiter
from proxy.store.caller_keys import CallerKey
from proxy.store.embedded import EmbeddedStore, embedded_store
from proxy.store.finished import SetAside
from proxy.store.packing import moved_account
from proxy.store.reads import Standing
from proxy.store.store import Store
from proxy.store.sweeping import Sweeping

__all__ = [
    "CallerKey",
    "DataDir",
    "EmbeddedStore",
    "Refusal",
    "SetAside",
    "Standing",
    "Store",
    "Sweeping",
    "Waiter",
    "embedded_store",
    "moved_account",
    "uncounted_entries",
]
