"""Replay: run a call again on the same verified weights and compare the tokens.

A call is determined by its prompt's tokens, the sampling its receipt states and the weights; in
the runtime the receipt names, the same tokens must come out. In another runtime rounding may tip
a close choice, so there a difference proves nothing and is reported as undecided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from inference.errors import AuditError
from inference.receipt_format import PARTIAL, Receipt, RuntimeFacts, SamplingFacts
from inference.receipts import SignedReceipt, salted_hash, token_digest

CHECK: Final = 8


@dataclass(frozen=True)
class Disclosure:
    """What the payer shows of a call: the exact request body and its salt (32 bytes).

    With `output_ids` a difference can be shown to the token.
    """

    request: bytes
    salt: bytes
    output_ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Prepared:
    """What a request asks of a model: prompt tokens, and sampling with the receipt's seed."""

    prompt_ids: tuple[int, ...]
    sampling: SamplingFacts


class Replayer(Protocol):
    """Runs calls on weights it has verified itself."""

    def runtime(self, receipt: Receipt) -> RuntimeFacts:
        """Return what would compute this receipt's model here."""

    def prepare(self, receipt: Receipt, request: bytes) -> Prepared:
        """Read the request as the node should have; a seed it leaves open is the receipt's."""

    def generate(self, receipt: Receipt, prepared: Prepared, limit: int) -> Sequence[int]:
        """Return the tokens an honest node would have produced, at most `limit`."""


@dataclass(frozen=True)
class Replay:
    """`same` says that the tokens agree; without it the replay is undecided, `detail` says why."""

    same: bool
    detail: str


def replay(signed: SignedReceipt, disclosure: Disclosure, replayer: Replayer) -> Replay:
    """Re-run one call. Raises `AuditError` (8) with evidence when the node's tokens are not it."""
    receipt = signed.receipt
    if salted_hash(disclosure.salt, disclosure.request) != receipt.request.hash:
        return Replay(False, f"receipt {receipt.id}: the request shown is not the one it is about")
    prepared = replayer.prepare(receipt, disclosure.request)
    if prepared.sampling != receipt.sampling:
        asked = {"asked": prepared.sampling.to_json(), "did": receipt.sampling.to_json()}
        raise _different(signed, "the node sampled otherwise than was asked", asked)
    if token_digest(prepared.prompt_ids) != receipt.tokens.input_digest:
        shown = {"promptIds": list(prepared.prompt_ids)}
        raise _different(signed, "the node answered another prompt than was asked", shown)
    # Of a partial answer only what was delivered counts.
    partial = receipt.status == PARTIAL
    limit = receipt.tokens.output if partial else receipt.sampling.max_tokens
    ids = tuple(replayer.generate(receipt, prepared, limit))
    if token_digest(ids) == receipt.tokens.output_digest:
        return Replay(True, f"receipt {receipt.id}: the same {len(ids)} tokens")
    here = replayer.runtime(receipt)
    if here != receipt.runtime:
        return Replay(False, f"receipt {receipt.id}: other tokens, but in another runtime {here}")
    raise _different(signed, "other tokens come out of the model", _where(receipt, disclosure, ids))


def _where(receipt: Receipt, disclosure: Disclosure, ids: tuple[int, ...]) -> Mapping[str, object]:
    evidence: dict[str, object] = {"replayedIds": list(ids)}
    claimed = disclosure.output_ids
    if claimed is not None and token_digest(claimed) == receipt.tokens.output_digest:
        pairs = zip(claimed, ids, strict=False)
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(claimed), len(ids)))
        evidence |= {"claimedIds": list(claimed), "firstDifference": first}
    return evidence


def _different(signed: SignedReceipt, message: str, evidence: Mapping[str, object]) -> AuditError:
    text = f"receipt {signed.receipt.id}: {message}"
    return AuditError(CHECK, text, evidence={"receipt": signed.public(), **evidence})
