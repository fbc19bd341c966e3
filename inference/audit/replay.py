"""Replay: run a call again on the same verified weights, and compare the tokens.

A call is determined by its prompt's tokens, the sampling its receipt states and the weights.

1. the request shown is the one that the receipt is about
2. the node stated the weights that the chain records
3. it sampled as was asked, from the prompt that was asked, as exactly as was asked, and counted
   the tokens that there are
4. in the very runtime that the receipt names, if that is exact: the same tokens come out
5. elsewhere, or where other calls were computed beside it, rounding may tip a close choice: there
   the answer must end where the model lets it end, and pass the margin test
6. where the response is shown too: it says what the tokens say

What fails is evidence that stands alone: receipt, request, salt and tokens, from which anybody with
the model comes to the same result. Steps 4 and 5 need the answer's tokens; without them, other
tokens decide nothing but in the same exact runtime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

from inference.audit.disclosure import MAX_BODY_BYTES, Blob, TokenIds
from inference.audit.document import BytesKind, Digest, Document, OptionalKind
from inference.audit.field_kinds import BlobKind
from inference.audit.margin_test import Thresholds
from inference.audit.said import said
from inference.errors import AuditError
from inference.receipt_format import OK, PARTIAL, Receipt, RuntimeFacts, SamplingFacts
from inference.receipts import SignedReceipt, salted_hash, token_digest

CHECK: Final = 8


@dataclass(frozen=True)
class Disclosure:
    """What is shown of a call: the exact request body and its salt (32 bytes).

    With `output_ids` an answer that was computed elsewhere can be judged too; with the exact bytes
    of the response and their salt, whether the payer was told what the tokens say.
    """

    request: bytes
    salt: bytes
    output_ids: tuple[int, ...] | None = None
    response: bytes | None = None
    response_salt: bytes | None = None


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


@dataclass(frozen=True)
class Weighed:
    """What the reference says of a claimed answer.

    `lost` is by how many logits each token lost to the one that is chosen there, infinite for one
    that could not come; `fault` says where the answer does not end as the model's does, or is
    empty. `arithmetic` is that of the receipt's runtime.
    """

    lost: tuple[float, ...]
    arithmetic: str
    fault: str = ""


class Replayer(Protocol):
    """Runs calls on weights it has verified itself."""

    def weights(self, receipt: Receipt) -> bytes:
        """Return the resident digest (32 bytes) of the model that the receipt names."""

    def runtime(self, receipt: Receipt) -> RuntimeFacts:
        """Return what would compute this receipt's model here."""

    def prepare(self, receipt: Receipt, request: bytes) -> Prepared:
        """Read the request as the node should have; a seed it leaves open is the receipt's."""

    def generate(self, receipt: Receipt, prepared: Prepared, limit: int) -> Made:
        """Return the tokens an honest node would have produced, at most `limit`."""

    def texts(self, receipt: Receipt, ids: tuple[int, ...]) -> tuple[str, ...] | None:
        """Return what the answers say whose tokens these are; None where they are no plain text."""

    def weigh(self, receipt: Receipt, prepared: Prepared, claimed: tuple[int, ...]) -> Weighed:
        """Compute once over prompt and answer, and say by how much each token lost."""


@dataclass(frozen=True)
class Replay:
    """`same` says that the answer is the model's; without it nothing is decided, `detail` why.

    `weighed` says that the margin test found it so, and not its very tokens.
    """

    same: bool
    detail: str
    weighed: bool = False


@dataclass(frozen=True)
class _Shown(Document):
    """A disclosure inside evidence."""

    request: Blob
    salt: Digest
    output_ids: TokenIds
    response: Annotated[bytes | None, OptionalKind(BlobKind(MAX_BODY_BYTES))] = None
    response_salt: Annotated[bytes | None, OptionalKind(BytesKind(32))] = None


def replay(
    signed: SignedReceipt,
    disclosure: Disclosure,
    replayer: Replayer,
    thresholds: Thresholds | None = None,
) -> Replay:
    """Re-run one call. Raises `AuditError` (8) with evidence when the answer is not the model's."""
    receipt = signed.receipt
    if receipt.status not in (OK, PARTIAL):
        return Replay(False, f"receipt {receipt.id}: a call that {receipt.status} made no answer")
    if salted_hash(disclosure.salt, disclosure.request) != receipt.request.hash:  # 1
        return Replay(False, f"receipt {receipt.id}: the request shown is not the one it is about")
    accused = _Accused(signed, disclosure)
    if (weights := replayer.weights(receipt)) != receipt.model.resident_digest:  # 2
        stands = {"recordedWeights": "0x" + weights.hex()}
        raise accused.of("the node stated other weights than the chain records", stands)
    prepared = replayer.prepare(receipt, disclosure.request)
    _check_asked(receipt, prepared, accused)  # 3
    claimed = disclosure.output_ids
    if claimed is not None and token_digest(claimed) != receipt.tokens.output_digest:
        claimed = None  # not the answer's: it can neither accuse nor excuse
    if claimed is not None:
        _check_counted(receipt, claimed, accused)
    here = receipt.runtime.is_exact and replayer.runtime(receipt) == receipt.runtime
    if here or claimed is None:
        return _compare(signed, prepared, replayer, accused, claimed, exact=here)  # 4
    weighed = replayer.weigh(receipt, prepared, claimed)  # 5
    if weighed.fault:
        raise accused.of(f"the answer is not the model's: {weighed.fault}", {})
    verdict = (thresholds or Thresholds.read()).judge(weights, weighed.arithmetic, weighed.lost)
    found = f"its tokens lose {verdict.score:.4f} logits too much, {verdict.bound:.4f} are honest"
    if not verdict.is_honest:
        lost = ["cannot be" if math.isinf(each) else f"{each:.4f}" for each in weighed.lost]
        margins = {"lost": lost, "verdict": verdict.to_json()}
        raise accused.of(f"the answer is not the model's: {found}", margins)
    _check_said(receipt, claimed, replayer, accused)  # 6
    return Replay(True, f"receipt {receipt.id}: {found}", weighed=True)


def shown_in(evidence: Mapping[str, Any]) -> tuple[SignedReceipt, Disclosure]:
    """Read evidence of this check, for whoever replays the call again. Raises `FormatError`."""
    signed = SignedReceipt.from_json(evidence.get("receipt"))
    shown = _Shown.from_json(evidence.get("shown"), "shown")
    return signed, Disclosure(
        shown.request, shown.salt, shown.output_ids or None, shown.response, shown.response_salt
    )


@dataclass(frozen=True)
class _Accused:
    """A call whose node may be accused."""

    signed: SignedReceipt
    disclosure: Disclosure

    def of(self, message: str, more: Mapping[str, object]) -> AuditError:
        """Return the accusation, with evidence that stands alone."""
        ids = self.disclosure.output_ids or ()
        one = self.disclosure
        shown = _Shown(one.request, one.salt, ids, one.response, one.response_salt)
        evidence = {"receipt": self.signed.public(), "shown": shown.to_json(), **more}
        text = f"receipt {self.signed.receipt.id}: {message}"
        return AuditError(CHECK, text, evidence=evidence)


def _check_asked(receipt: Receipt, prepared: Prepared, accused: _Accused) -> None:
    if prepared.sampling != receipt.sampling:
        asked = {"asked": prepared.sampling.to_json(), "did": receipt.sampling.to_json()}
        raise accused.of("the node sampled otherwise than was asked", asked)
    if token_digest(prepared.prompt_ids) != receipt.tokens.input_digest:
        prompt = {"promptIds": list(prepared.prompt_ids)}
        raise accused.of("the node answered another prompt than was asked", prompt)
    if len(prepared.prompt_ids) != receipt.tokens.input:
        counted = {"counted": receipt.tokens.input, "are": len(prepared.prompt_ids)}
        raise accused.of("the node counted other tokens in than there are", counted)
    if prepared.exact and not receipt.runtime.is_exact:
        stated = {"engine": receipt.runtime.engine}
        raise accused.of("exactness was asked, and the receipt does not state it", stated)


def _check_counted(receipt: Receipt, ids: Sequence[int], accused: _Accused) -> None:
    """Refuse a receipt that counts, and charges, other tokens than those it has the digest of."""
    if len(ids) != receipt.tokens.output:
        counted = {"counted": receipt.tokens.output, "are": len(ids)}
        raise accused.of("the node counted other tokens out than there are", counted)


def _check_said(
    receipt: Receipt, ids: tuple[int, ...], replayer: Replayer, accused: _Accused
) -> None:
    """Refuse an answer whose text is not what its tokens say, where the response is shown."""
    shown = accused.disclosure
    if receipt.status != OK or shown.response is None or shown.response_salt is None:
        return
    if salted_hash(shown.response_salt, shown.response) != receipt.response.hash:
        return  # not the one that the receipt is about: it can neither accuse nor excuse
    told, made = said(shown.response), replayer.texts(receipt, ids)
    if told is not None and made is not None and told != made:
        raise accused.of(
            "the payer was told another text than the tokens say", {"text": list(made)}
        )


def _compare(
    signed: SignedReceipt,
    prepared: Prepared,
    replayer: Replayer,
    accused: _Accused,
    claimed: tuple[int, ...] | None,
    *,
    exact: bool,
) -> Replay:
    """Make the answer again, and compare its tokens one by one."""
    receipt = signed.receipt
    # Of a partial answer only what was delivered counts.
    partial = receipt.status == PARTIAL
    limit = receipt.tokens.output if partial else receipt.sampling.max_tokens
    made = replayer.generate(receipt, prepared, limit)
    if token_digest(made.ids) == receipt.tokens.output_digest:
        _check_counted(receipt, made.ids, accused)
        _check_said(receipt, made.ids, replayer, accused)  # 6
        return Replay(True, f"receipt {receipt.id}: the same {len(made.ids)} tokens")
    if not exact:
        return Replay(
            False,
            f"receipt {receipt.id}: other tokens came out here, where rounding differs, and its "
            "own were not shown",
        )
    evidence: dict[str, object] = {"replayedIds": list(made.ids)}
    if claimed is not None:
        evidence["firstDifference"] = _first_difference(claimed, made.ids)
    raise accused.of("other tokens come out of the model", evidence)


def _first_difference(claimed: Sequence[int], made: Sequence[int]) -> int:
    pairs = enumerate(zip(claimed, made, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(claimed), len(made)))
