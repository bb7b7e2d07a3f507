"""TLS to the upstream: the system's certificates and the configured ones, and sessions that are taken up again."""

import ssl
from pathlib import Path
from typing import Any

from proxy.errors import UsageError


class ResumingContext(ssl.SSLContext):
    """A context for one server: a new connection takes up the last one's session, and needs no full handshake.

    asyncio has no parameter for that; it makes its TLS objects here.
    """

    session: ssl.SSLSession | None = None

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*arguments, **{**options, "session": self.session})


def context_for(ca_file: Path | None) -> ResumingContext:
    """`ca_file`: certificates to be trusted beside the system's. Raises UsageError when it cannot be used."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=str(ca_file))
        except ssl.SSLError:
            raise UsageError(f"upstream_ca_file: {ca_file} holds no certificates in PEM form") from None
        except OSError as error:
            raise UsageError(f"upstream_ca_file: {ca_file} cannot be read: {error.strerror or error}") from None
    return context
