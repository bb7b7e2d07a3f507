"""HTTP/1.1 on the wire: bytes in, heads and bodies out. No socket, no clock.

Stricter than the standard asks (RFC 9112), because two who read one message differently are how requests are smuggled:
what two readers could take differently is refused, not repaired. llhttp and h11 were not put here because each accepts
something of this on its own and a check in front of them would have had to read the whole head again; both stand
beside these tests instead, and what one of them reads otherwise than this room must be refused here.

    fields    header lines: names, values, and what may stand in them
    heads     request and response heads, and how a body is framed
    alike     request heads that came before, but for the length of their body
    bodies    bodies by length, in chunks, and up to the end of the connection
"""

from proxy.http1.alike import SeenHeads
from proxy.http1.bodies import Body, Chunked, Empty, Length, UntilClose, chunk, last_chunk
from proxy.http1.fields import BadHttp, Field, InvalidField, field_line
from proxy.http1.heads import MAX_HEAD, RequestHead, ResponseHead, end_of_head, read_request, read_response

__all__ = [
    "MAX_HEAD",
    "BadHttp",
    "Body",
    "Chunked",
    "Empty",
    "Field",
    "InvalidField",
    "Length",
    "RequestHead",
    "ResponseHead",
    "SeenHeads",
    "UntilClose",
    "chunk",
    "end_of_head",
    "field_line",
    "last_chunk",
    "read_request",
    "read_response",
]
