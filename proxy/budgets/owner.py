"""The owner: who pays for a request."""

from dataclasses import dataclass
from typing import Final

_KEY: Final = "key-"
_SHOWN_DIGITS: Final = 8  # hex digits of the key's digest that people see


@dataclass(frozen=True, slots=True)
class Owner:
    """Two owners are the same when their identities are. The name is what people see; names of keys may collide.

    A taximeter key's owner is a name, and is its own identity. The owner of any other key has the identity
    `key-` + 64 hex digits (the SHA-256 of the key) and shows the first 8 of them. No key: `anonymous`.
    """

    name: str
    identity: str

    @classmethod
    def of_identity(cls, identity: str) -> "Owner":
        """The owner with this identity, as the store keeps it."""
        is_digest = identity.startswith(_KEY)
        return cls(identity[: len(_KEY) + _SHOWN_DIGITS] if is_digest else identity, identity)

    @classmethod
    def of_digest(cls, sha256_hex: str) -> "Owner":
        """The owner of a key that taximeter did not make, by the digest of that key."""
        return cls.of_identity(_KEY + sha256_hex)


ANONYMOUS = Owner("anonymous", "anonymous")
