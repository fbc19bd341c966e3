"""Replay: run a call again on the same verified weights and compare the tokens.

A call is determined by its prompt's tokens, the sampling its receipt states and the weights; in
the runtime the receipt names, if that is exact, the same tokens must come out. In another runtime,
or where other calls were computed beside it, rounding may tip a close choice: there only the loss
of a choice that was clear proves something, and any other difference is reported as undecided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from inference.errors import AuditError
from inference.receipt_format import PARTIAL, Receipt, RuntimeFacts, SamplingFacts
from inference.receipts import SignedReceipt, salted_hash, token_digest

CHECK: Final = 8
# In logits: some ten times what rounding in bfloat16 moved them, where it was seen.
CLEAR_MARGIN: Final = 1.0


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
    """What a request asks of a model: prompt tokens, and sampling with the receipt's seed.

    `exact` says that it asked for tokens that depend on it alone.
    """

    prompt_ids: tuple[int, ...]
    sampling: SamplingFacts
    exact: bool = False


@dataclass(frozen=True)
class Made:
    """Tokens that came out, and by how many logits each won over the runner-up."""

    ids: tuple[int, ...]
    margins: tuple[float, ...]


class Replayer(Protocol):
    """Runs calls on weights it has verified itself."""

    def runtime(self, receipt: Receipt) -> RuntimeFacts:
        """Return what would compute this receipt's model here."""

    def prepare(self, receipt: Receipt, request: bytes) -> Prepared:
        """Read the request as the node should have; a seed it leaves open is the receipt's."""

    def generate(self, receipt: Receipt, prepared: Prepared, limit: int) -> Made:
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
    if prepared.exact and not receipt.runtime.is_exact:
        stated = {"engine": receipt.runtime.engine}
        raise _different(signed, "exactness was asked, and the receipt does not state it", stated)
    # Of a partial answer only what was delivered counts.
    partial = receipt.status == PARTIAL
    limit = receipt.tokens.output if partial else receipt.sampling.max_tokens
    made = replayer.generate(receipt, prepared, limit)
    if token_digest(made.ids) == receipt.tokens.output_digest:
        return Replay(True, f"receipt {receipt.id}: the same {len(made.ids)} tokens")
    return _judge(signed, disclosure, made, replayer.runtime(receipt))


def _judge(signed: SignedReceipt, disclosure: Disclosure, made: Made, here: RuntimeFacts) -> Replay:
    """Say what other tokens mean: a false answer, or nothing that can be decided."""
    receipt = signed.receipt
    evidence: dict[str, object] = {"replayedIds": list(made.ids)}
    margin = 0.0
    claimed = disclosure.output_ids
    if claimed is not None and token_digest(claimed) == receipt.tokens.output_digest:
        first = _first_difference(claimed, made.ids)
        margin = made.margins[first] if first < len(made.margins) else 0.0
        evidence |= {"claimedIds": list(claimed), "firstDifference": first}
    same = here == receipt.runtime
    if same and (receipt.runtime.is_exact or margin > CLEAR_MARGIN):
        raise _different(signed, "other tokens come out of the model", evidence)
    if same:
        why = "by choices that may have been tipped by what was computed beside it"
    else:
        why = f"in another runtime {here}"
    return Replay(False, f"receipt {receipt.id}: other tokens, but {why}")


def _first_difference(claimed: Sequence[int], made: Sequence[int]) -> int:
    pairs = enumerate(zip(claimed, made, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(claimed), len(made)))


def _different(signed: SignedReceipt, message: str, evidence: Mapping[str, object]) -> AuditError:
    text = f"receipt {signed.receipt.id}: {message}"
    return AuditError(CHECK, text, evidence={"receipt": signed.public(), **evidence})
