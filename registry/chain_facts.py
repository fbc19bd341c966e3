"""What the chain says of a model at one block: steps 1, 4 and 5 of story b."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from registry.attestation import Attestation
from registry.chain.block import Block, BlockRef
from registry.errors import ManifestError, RecordError, RecordRevokedError, WeightproofError
from registry.lineage import RecordSource, ancestors
from registry.manifest import ModelManifest
from registry.policy import (
    Policy,
    check_ancestor,
    check_attestations,
    check_freshness,
    check_publisher,
    counted,
)
from registry.record import Kind, Record, Status


class AttestationSource(Protocol):
    """Whatever can answer for attestations: the Attestations contract."""

    def attestations_of(
        self,
        model_id: bytes,
        *,
        block: BlockRef | None = None,
        attesters: Collection[str] | None = None,
    ) -> tuple[Attestation, ...]:
        """Return a model's attestations, each checked against its id; by `attesters` if given."""


@dataclass(frozen=True)
class ChainFacts:
    """Two contracts read at one block, and what they are judged by; `now` in Unix seconds."""

    registry: RecordSource
    attestations: AttestationSource
    policy: Policy
    block: Block
    now: int

    def active(self, model_id: bytes) -> Record:
        """Step 1: return the record of a model that was not revoked."""
        with step(1, "record"):
            check_freshness(self.policy, self.block.timestamp, self.now)
            record = self.registry.record(model_id, block=self.block)
            if record.kind is not Kind.MODEL:
                raise RecordError(
                    f"0x{record.id.hex()} is a {record.kind.word}, not a model",
                    hint="give the id that registering the model printed",
                )
            if record.status is not Status.ACTIVE:
                raise RecordRevokedError(
                    f"model 0x{record.id.hex()} was revoked by its publisher at "
                    f"{record.revoked_at}",
                    hint="ask the publisher for its successor",
                )
        return record

    def counting(self, model_id: bytes) -> tuple[Attestation, ...]:
        """Step 4: return the attestations that count."""
        with step(4, "attestations"):
            # Asked by attester: however many strangers add, those that count are read.
            found = self.attestations.attestations_of(
                model_id, block=self.block, attesters=self.policy.attesters
            )
            about = [attestation for attestation in found if attestation.model_id == model_id]
            # The later clock decides: a node whose clock is behind must not believe what expired.
            return counted(self.policy, about, max(self.now, self.block.timestamp))

    def check_policy(
        self, record: Record, model: ModelManifest, counting: tuple[Attestation, ...]
    ) -> None:
        """Step 5: demand a trusted publisher, enough attesters and a lineage without taint."""
        with step(5, "policy"):
            check_publisher(self.policy, record)
            check_attestations(self.policy, counting)
            self._check_lineage(record, model)

    def _check_lineage(self, record: Record, model: ModelManifest) -> None:
        said = {parent.id: parent.kind for parent in model.parents}
        limit = self.policy.max_ancestors
        for ancestor in ancestors(self.registry, record, block=self.block, limit=limit):
            check_ancestor(self.policy, record, ancestor)
            if said.get(ancestor.id, ancestor.kind) is not ancestor.kind:
                raise ManifestError(
                    f"the manifest calls 0x{ancestor.id.hex()} a {said[ancestor.id].word}, "
                    f"it is a {ancestor.kind.word}"
                )


def step(number: int, what: str) -> AbstractContextManager[None]:
    """Put the number of the step before the message of whatever it refuses with."""
    return prefixed(f"step {number} ({what})")


@contextmanager
def prefixed(words: str) -> Iterator[None]:
    """Put words before the message of whatever is refused within."""
    try:
        yield
    except WeightproofError as error:
        error.message = f"{words}: {error.message}"
        error.args = (error.message,)
        raise
