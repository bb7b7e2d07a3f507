"""Choosing, pooling and sending: what taximeter does with the servers it forwards to.

route        where the upstream is: its address, and the proxy on the way, if the environment names one
dialing      a socket to it: look-up, the first address that answers, the proxy's tunnel
tls          certificates, names, and sessions that are taken up again
connection   one connection: a request out, its answer in, strictly read
kernel       what the system knows of bytes that were sent
pool         connections kept warm, and one attempt after the other on them
"""

from proxy.upstream.attempt import Attempt, Receiver
from proxy.upstream.pool import Upstream

__all__ = ["Attempt", "Receiver", "Upstream"]
