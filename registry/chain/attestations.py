"""The Attestations contract: who vouches for a model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from eth_utils.address import is_address, to_checksum_address
from web3.contract import Contract

from registry.attestation import NO_EVIDENCE, Attestation, decode_tag, encode_tag
from registry.chain.block import BlockRef, TxReceipt
from registry.chain.connection import Chain
from registry.errors import ChainMismatchError, ConfigError, RecordError, RecordUnknownError
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain

# Attestations read of one list, each a question to the chain: somebody may attest by the thousand.
MAX_READ: Final = 1_000


class AttestationBook:
    """One deployed Attestations contract. Ids and digests are 32 bytes, times Unix seconds.

    `max_read` bounds how many attestations are read of one list, the newest.
    """

    def __init__(self, chain: Chain, address: str, *, max_read: int = MAX_READ) -> None:
        self.chain: Final = chain
        self.address: Final = address
        self._max_read: Final = max_read

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
        self,
        model_id: bytes,
        *,
        block: BlockRef | None = None,
        attesters: Collection[str] | None = None,
    ) -> tuple[Attestation, ...]:
        """Return the model's attestations, oldest first; of very many the newest 1,000.

        With `attesters` given only theirs are read, one attester after the other and the newest
        1,000 of each: then nobody else can hide them behind many of their own. Attestations whose
        tag is no text are left out: no policy can name them. Raises `ConfigError` for an attester
        that is no address, and `ChainMismatchError` when an attestation of another model or
        attester is listed.
        """
        if attesters is None:
            return tuple(self._read(model_id, None, block))
        for attester in attesters:
            if not is_address(attester):
                raise ConfigError(f"{attester!r:.60} is not the address of an attester")
        own = sorted({to_checksum_address(attester) for attester in attesters})
        return tuple(found for by in own for found in self._read(model_id, by, block))

    def _read(
        self, model_id: bytes, attester: str | None, block: BlockRef | None
    ) -> Iterator[Attestation]:
        functions = self._contract().functions
        listed = (
            functions.attestationsOf(model_id)
            if attester is None
            else functions.attestationsBy(model_id, to_checksum_address(attester))
        )
        for id in self.chain.call(listed, block)[-self._max_read :]:
            try:
                found = self.attestation(bytes(id), block=block)
            except RecordError:
                continue
            if found.model_id != model_id or attester not in (None, found.attester):
                raise ChainMismatchError(
                    f"attestation 0x{id.hex()} is not of the model and attester asked for",
                    hint="the RPC endpoint or the contract cannot be trusted",
                )
            yield found

    def _contract(self) -> Contract:
        return self.chain.contract("Attestations", self.address)
