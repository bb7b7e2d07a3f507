"""The sockets that clients and operators connect to."""

import socket

from proxy.config import Address
from proxy.errors import UsageError

BACKLOG = 1024  # connections that wait to be accepted


def bind(address: Address, flag: str) -> socket.socket:
    """A listening socket. Raises UsageError, which names the flag, when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted has it from here
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise UsageError(f"cannot listen on {address}: {reason}; choose another address with {flag}") from error
    listener.setblocking(False)
    return listener
