"""A message to a webhook, signed as Standard Webhooks says (https://www.standardwebhooks.com), sent once."""

import base64
import binascii
import hashlib
import hmac
from urllib.parse import urlsplit

from proxy.config import Secret

SECONDS = 10.0  # for a receiver to accept
_SECRET_PREFIX = "whsec_"  # noqa: S105 - how secrets in base64 begin, in that specification


class NotAccepted(Exception):  # noqa: N818 - an answer, not a fault
    """The receiver did not take it. The message names no URL: that is a secret."""


def shown(url: Secret) -> str:
    """What may be said of a webhook's URL: where it is, not its path."""
    parts = urlsplit(url.reveal())
    return f"{parts.scheme}://{parts.netloc}/…"


def signature(secret: Secret, event_id: str, timestamp: int, body: bytes) -> str:
    """HMAC-SHA256 over `id.timestamp.body`, in base64, after its version."""
    signed = b"%s.%d.%s" % (event_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


async def post(url: Secret, secret: Secret | None, event_id: str, timestamp: int, body: bytes) -> None:
    """Raises NotAccepted unless the answer is 2xx. A redirect is no acceptance: it would lead a secret elsewhere."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "taximeter",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        headers["webhook-signature"] = signature(secret, event_id, timestamp, body)
    import aiohttp  # noqa: PLC0415 - most installations tell nobody, and should start without it

    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.post(url.reveal(), data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except TimeoutError:
        raise NotAccepted(f"no answer within {SECONDS:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotAccepted(f"no answer: {type(error).__name__}") from None  # its text may hold the URL
    if not 200 <= status < 300:
        raise NotAccepted(f"status {status}")


def _key(secret: Secret) -> bytes:
    text = secret.reveal()
    if text.startswith(_SECRET_PREFIX):
        try:
            return base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
        except binascii.Error:
            pass  # then it only looks like one
    return text.encode()
