"""The Attestations contract: who vouches for a model."""

from __future__ import annotations

from typing import Final

from web3.contract import Contract

from registry.attestation import NO_EVIDENCE, Attestation, decode_tag, encode_tag
from registry.chain.block import BlockRef, TxReceipt
from registry.chain.connection import Chain
from registry.errors import ChainMismatchError, RecordError, RecordUnknownError
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain

# Anybody may attest anything; reading must stay bounded when somebody attests by the thousand.
MAX_READ: Final = 1_000


class AttestationBook:
    """One deployed Attestations contract. Ids and digests are 32 bytes, times Unix seconds."""

    def __init__(self, chain: Chain, address: str) -> None:
        self.chain: Final = chain
        self.address: Final = address

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain that relayed attestations are signed in."""
        return Domain("Weightproof Attestations", "1", self.chain.chain_id, self.address)

    def attest(
        self,
        signer: Signer,
        model_id: bytes,
        tag: str,
        score: int,
        expires_at: int,
        *,
        evidence: bytes = NO_EVIDENCE,
    ) -> TxReceipt:
        """Attest as `signer`, who pays the gas. `score` is in basis points, 0 to 10,000."""
        call = self._contract().functions.attest(
            model_id, encode_tag(tag), score, evidence, expires_at
        )
        return self.chain.send(signer, call)

    def sign(self, attester: Signer, attestation: Attestation) -> bytes:
        """Sign an attestation that somebody else will send; 65 bytes."""
        return attester.sign_digest(attestation.digest(self.domain))

    def attest_for(self, relayer: Signer, attestation: Attestation, signature: bytes) -> TxReceipt:
        """Send an attestation that its attester signed; `relayer` pays the gas."""
        call = self._contract().functions.attestFor(
            attestation.attester,
            attestation.model_id,
            encode_tag(attestation.tag),
            attestation.score,
            attestation.evidence,
            attestation.issued_at,
            attestation.expires_at,
            signature,
        )
        return self.chain.send(relayer, call)

    def revoke(self, signer: Signer, id: bytes) -> TxReceipt:
        """Take an attestation back. Only its attester may."""
        return self.chain.send(signer, self._contract().functions.revoke(id))

    def attestation(self, id: bytes, *, block: BlockRef | None = None) -> Attestation:
        """Return one attestation.

        Raises `RecordUnknownError`, or `ChainMismatchError` when its fields do not hash to its id.
        """
        raw = self.chain.call(self._contract().functions.attestation(id), block)
        model_id, attester, tag, score, evidence, issued_at, expires_at, revoked_at = raw
        if not any(model_id):
            raise RecordUnknownError(f"there is no attestation 0x{id.hex()}")
        found = Attestation(
            model_id,
            attester,
            decode_tag(tag),
            score,
            evidence,
            issued_at,
            expires_at,
            revoked_at,
        )
        if found.id != id:
            raise ChainMismatchError(
                f"attestation 0x{id.hex()} came with other fields than its id is made of",
                hint="the RPC endpoint or the contract cannot be trusted",
            )
        return found

    def attestations_of(
        self, model_id: bytes, *, block: BlockRef | None = None
    ) -> tuple[Attestation, ...]:
        """Return the model's attestations, oldest first; of very many the newest 1,000.

        Attestations whose tag is no text are left out: no policy can name them.
        """
        ids = self.chain.call(self._contract().functions.attestationsOf(model_id), block)
        found = []
        for id in ids[-MAX_READ:]:
            try:
                attestation = self.attestation(bytes(id), block=block)
            except RecordError:
                continue
            found.append(attestation)
        return tuple(found)

    def _contract(self) -> Contract:
        return self.chain.contract("Attestations", self.address)
