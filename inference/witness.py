"""The witness: answers a caller's nonce with what the node finds in its own memory.

It is free of charge, so it is bounded: one at a time for each model, at most
`MAX_SELECTED_BYTES` of them, and after each a pause that keeps it to a twentieth of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from inference.catalog import Catalog, CatalogEntry
from inference.errors import ModelStoppedError, NodeError, UnavailableError
from inference.resident_statement import (
    ResidentStatement,
    SignedStatement,
    TensorFacts,
    issue,
)
from inference.selection import select
from inference.statements import model_facts, runtime_facts
from registry.manifest_parts import TensorEntry
from registry.signing.signer import Signer

# Seconds between two statements about one model, and how many times as long as the last one took.
MIN_PAUSE_S: Final = 1.0
PAUSE_FACTOR: Final = 19


class TooManyQuestionsError(NodeError):
    """The model's tensors are being hashed, or were just now. `retry_after_s` is in seconds."""

    status = 429
    code = "too_many_requests"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            "this model answers one question at a time, and then pauses",
            hint=f"ask again in {retry_after_s} s",
        )
        self.retry_after_s = retry_after_s


@dataclass
class _Turn:
    """Whose turn it is at one model. `free_at` is by the witness's clock, in seconds."""

    is_taken: bool = False
    free_at: float = 0.0


class Witness:
    """Hashes what nonces select and signs it. `stop` ends a model whose memory is not as it was."""

    def __init__(
        self,
        catalog: Catalog,
        signer: Signer,
        stop: Callable[[CatalogEntry, ModelStoppedError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._signer = signer
        self._stop = stop
        self._clock = clock
        self._turns: WeakKeyDictionary[CatalogEntry, _Turn] = WeakKeyDictionary()
        self._lock = Lock()

    async def testify(self, name: str, nonce: bytes, count: int) -> SignedStatement:
        """Return a signed statement over the `count` tensors that the nonce selects.

        Raises `ModelUnknownError`, `ModelStoppedError` for a model that is not or no longer what
        was verified, `TooManyQuestionsError`.
        """
        entry = self._catalog.get(name)
        turn = self._take(entry)
        answer = asyncio.to_thread(self._answer, entry, turn, nonce, count)
        # Whoever asked may leave: the turn ends when the hashing does.
        return await asyncio.shield(asyncio.ensure_future(answer))

    def _take(self, entry: CatalogEntry) -> _Turn:
        with self._lock:
            turn = self._turns.setdefault(entry, _Turn())
            wait = turn.free_at - self._clock()
            if turn.is_taken or wait > 0:
                raise TooManyQuestionsError(max(1, ceil(wait)))
            turn.is_taken = True
        return turn

    def _answer(
        self, entry: CatalogEntry, turn: _Turn, nonce: bytes, count: int
    ) -> SignedStatement:
        started = self._clock()
        try:
            return self._statement(entry, nonce, count)
        finally:
            now = self._clock()
            with self._lock:
                turn.free_at = now + max(MIN_PAUSE_S, PAUSE_FACTOR * (now - started))
                turn.is_taken = False

    def _statement(self, entry: CatalogEntry, nonce: bytes, count: int) -> SignedStatement:
        verified, resident = entry.verified, entry.loaded.resident
        selected = select(
            verified.tensors,
            nonce=nonce,
            model_id=verified.model_id,
            resident_digest=resident.digest,
            count=count,
        )
        found = self._hash(entry, [tensor.name for tensor in selected])
        for tensor in selected:
            self._compare(entry, tensor, found[tensor.name])
        # Stopped meanwhile, by the patrol or by its publisher: nothing is vouched for any more.
        if reason := self._catalog.stopped(entry):
            raise ModelStoppedError(f"model {entry.name} is not sold any more: {reason}")
        statement = ResidentStatement(
            node=self._signer.address,
            model=model_facts(entry, self._catalog.block(entry)),
            runtime=runtime_facts(entry),
            nonce=nonce,
            asked=count,
            tensors=tuple(TensorFacts.of(tensor, found[tensor.name]) for tensor in selected),
            made_at=int(time.time()),
        )
        return issue(self._signer, statement)

    def _hash(self, entry: CatalogEntry, names: list[str]) -> dict[str, bytes]:
        try:
            return entry.loaded.resident.hashes(names)
        except RuntimeError as error:
            # A GPU that is short of memory for a moment; the patrol judges what stays so.
            raise UnavailableError("the tensors cannot be hashed now") from error
        except (LookupError, TypeError, ValueError) as error:
            raise self._stopped(entry, f"a tensor cannot be hashed: {error!r:.200}") from error

    def _stopped(self, entry: CatalogEntry, reason: str) -> ModelStoppedError:
        self._stop(entry, ModelStoppedError(reason))
        return ModelStoppedError(f"model {entry.name} is not sold any more: {reason}")

    def _compare(self, entry: CatalogEntry, tensor: TensorEntry, digest: bytes) -> None:
        if digest != tensor.digest:
            raise self._stopped(
                entry, f"tensor {tensor.name} changed in memory since it was loaded"
            )
