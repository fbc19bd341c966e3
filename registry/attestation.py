"""An attestation: somebody puts their name to a check of a model they ran.

Its id is the EIP-712 struct hash of what was signed, so whoever reads one from the chain can tell
that none of its fields were changed on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from registry.errors import RecordError
from registry.signing.typed_data import Domain, Struct

# The tags we know; others are shown, and count only where a policy names them.
INTEGRITY: Final = "integrity"
EVALUATION: Final = "evaluation"
SAFETY: Final = "safety"
# Scores are basis points: 10,000 is 100 %.
MAX_SCORE: Final = 10_000
_TAG_BYTES: Final = 32
NO_EVIDENCE: Final = bytes(32)

STRUCT: Final = Struct(
    "Attestation",
    {
        "modelId": "bytes32",
        "attester": "address",
        "tag": "bytes32",
        "score": "uint32",
        "evidence": "bytes32",
        "issuedAt": "uint64",
        "expiresAt": "uint64",
    },
)


@dataclass(frozen=True)
class Attestation:
    """One attestation. Times are Unix seconds; `revoked_at` is 0 while it stands.

    `score` is in basis points; `evidence` is the digest of a block that shows what was checked,
    or 32 zero bytes.
    """

    model_id: bytes
    attester: str
    tag: str
    score: int
    evidence: bytes
    issued_at: int
    expires_at: int
    revoked_at: int = 0

    @property
    def id(self) -> bytes:
        """The 32-byte EIP-712 struct hash: the attestation's name on chain."""
        return STRUCT.hash(self._values())

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that the attester signs for a relayed attestation."""
        return STRUCT.digest(domain.separator(), self._values())

    def stands(self, now: int) -> bool:
        """Say whether it is neither revoked, expired nor dated after `now` (Unix seconds)."""
        return self.revoked_at == 0 and self.issued_at <= now < self.expires_at

    def _values(self) -> dict[str, object]:
        return {
            "modelId": self.model_id,
            "attester": self.attester,
            "tag": encode_tag(self.tag),
            "score": self.score,
            "evidence": self.evidence,
            "issuedAt": self.issued_at,
            "expiresAt": self.expires_at,
        }


def encode_tag(tag: str) -> bytes:
    """Return a tag as the contract keeps it: ASCII, zero-padded to 32 bytes."""
    if not (tag.isascii() and tag.isprintable() and 0 < len(tag) <= _TAG_BYTES):
        raise RecordError(
            f"{tag!r:.60} is not a tag: 1 to 32 printable ASCII characters",
            hint=f"the usual ones are {INTEGRITY}, {EVALUATION} and {SAFETY}",
        )
    return tag.encode("ascii").ljust(_TAG_BYTES, b"\0")


def decode_tag(raw: bytes) -> str:
    """Return the tag in 32 bytes; raises `RecordError` when they hold none."""
    stripped = raw.rstrip(b"\0")
    tag = stripped.decode("ascii", errors="replace")
    if len(raw) != _TAG_BYTES or encode_tag(tag) != raw:
        raise RecordError(f"0x{raw[:_TAG_BYTES].hex()} holds no tag")
    return tag
