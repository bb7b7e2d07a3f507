"""What runs by the clock, on one instance at a time: each job under its own lease in the store.

runner   runs jobs while their leases hold
backfill counts the ledger's lines for budgets that came later
notify   tells of thresholds; `webhook` sends
lease    a lease that is kept, and said to be lost in time
sweeper  the dead writers' holds become presumed entries
trim     the ledger's retention

Who writes a job: a process that was stopped for longer than its lease may go on for a moment beside its successor, so
everything a job does must bear being done twice. It is cancelled when its lease is lost, when the configuration is read
again and at the end.
"""

from proxy.jobs.runner import Job, run_jobs

__all__ = ["Job", "run_jobs"]
