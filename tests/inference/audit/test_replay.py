"""Replay: a node that computed something else is shown to have done so."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from inference.audit.replay import CLEAR_MARGIN, Disclosure, Made, Prepared, replay
from inference.errors import AuditError
from inference.receipt_format import Receipt, RuntimeFacts
from inference.receipts import SignedReceipt, issue, token_digest
from tests.inference.receipt_samples import (
    DOMAIN,
    NODE,
    OUTPUT_IDS,
    PROMPT_IDS,
    REQUEST,
    SALTS,
    call,
)

DISCLOSED = Disclosure(REQUEST, SALTS.request, OUTPUT_IDS)


def signed(**changes: object) -> SignedReceipt:
    facts = replace(call(), **changes)  # type: ignore[arg-type]  # facts of a receipt
    return issue(NODE, DOMAIN, facts, seq=0, prev=bytes(32))


@dataclass
class Bigram:
    """A language model small enough to see through: the next token is a function of the last."""

    modulus: int = 50_000
    prompt: tuple[int, ...] = PROMPT_IDS
    temperature: str = "0"
    threads: int = 1
    exact: bool = False
    margin: float = 0.1

    def runtime(self, receipt: Receipt) -> RuntimeFacts:
        return replace(receipt.runtime, threads=self.threads)

    def prepare(self, receipt: Receipt, request: bytes) -> Prepared:
        assert request == REQUEST
        sampling = replace(receipt.sampling, temperature=self.temperature)
        return Prepared(self.prompt, sampling, self.exact)

    def generate(self, receipt: Receipt, prepared: Prepared, limit: int) -> Made:
        ids = [prepared.prompt_ids[-1] * 31 % self.modulus]
        while len(ids) < limit:
            ids.append(ids[-1] * 31 % self.modulus)
        return Made(tuple(ids), (self.margin,) * len(ids))


HONEST = Bigram().generate(signed().receipt, Prepared(PROMPT_IDS, call().sampling), 8).ids
EXACT = replace(call().runtime, engine="weightproof/packed exact")
SHARED = replace(call().runtime, engine="weightproof/modules")


def answered(
    ids: tuple[int, ...], status: str = "ok", runtime: RuntimeFacts = EXACT
) -> SignedReceipt:
    tokens = replace(call().tokens, output_digest=token_digest(ids), output=len(ids))
    return signed(tokens=tokens, status=status, runtime=runtime)


def test_other_tokens_are_shown_with_the_first_that_differs() -> None:
    lie = (*HONEST[:5], 1, 2, 3)
    with pytest.raises(AuditError, match="other tokens come out of the model") as caught:
        replay(answered(lie), Disclosure(REQUEST, SALTS.request, lie), Bigram())
    assert caught.value.check == 8
    assert caught.value.evidence["firstDifference"] == 5
    assert caught.value.evidence["replayedIds"] == list(HONEST)
    assert caught.value.evidence["receipt"] == answered(lie).public()


def test_an_answer_that_stopped_early_is_shown() -> None:
    with pytest.raises(AuditError, match="other tokens") as caught:
        replay(answered(HONEST[:3]), Disclosure(REQUEST, SALTS.request, HONEST[:3]), Bigram())
    assert caught.value.evidence["firstDifference"] == 3


def test_ids_that_are_not_the_receipts_are_not_used_as_evidence() -> None:
    with pytest.raises(AuditError) as caught:
        replay(answered((9, 9)), Disclosure(REQUEST, SALTS.request, (1, 2)), Bigram())
    assert "claimedIds" not in caught.value.evidence


def test_another_prompt_than_was_asked_is_shown() -> None:
    with pytest.raises(AuditError, match="another prompt"):
        replay(answered(HONEST), DISCLOSED, Bigram(prompt=PROMPT_IDS[1:]))


def test_another_sampling_than_was_asked_is_shown() -> None:
    with pytest.raises(AuditError, match="sampled otherwise") as caught:
        replay(answered(HONEST), DISCLOSED, Bigram(temperature="0.7"))
    assert "asked" in caught.value.evidence


def test_a_request_that_is_not_the_receipts_decides_nothing() -> None:
    for wrong in (Disclosure(b"{}", SALTS.request), Disclosure(REQUEST, bytes(32))):
        found = replay(answered(HONEST), wrong, Bigram())
        assert not found.same
        assert "not the one it is about" in found.detail


def test_another_runtime_decides_nothing_when_tokens_differ() -> None:
    found = replay(answered((1, 2)), DISCLOSED, Bigram(threads=2))
    assert not found.same
    assert "another runtime" in found.detail


def test_an_honest_call_replays_whole_and_in_part() -> None:
    assert replay(answered(HONEST), DISCLOSED, Bigram()).same
    assert replay(answered(HONEST), DISCLOSED, Bigram(threads=2)).same
    assert replay(answered(HONEST[:3], "partial"), DISCLOSED, Bigram()).same


def test_exactness_that_was_asked_must_be_stated() -> None:
    with pytest.raises(AuditError, match="exactness was asked"):
        replay(answered(HONEST, runtime=SHARED), DISCLOSED, Bigram(exact=True))
    assert replay(answered(HONEST), DISCLOSED, Bigram(exact=True)).same


def test_beside_other_calls_only_the_loss_of_a_clear_choice_is_shown() -> None:
    lie = (*HONEST[:5], 1, 2, 3)
    disclosed = Disclosure(REQUEST, SALTS.request, lie)
    shared = answered(lie, runtime=SHARED)
    found = replay(shared, disclosed, Bigram(margin=CLEAR_MARGIN))
    assert not found.same
    assert "tipped" in found.detail
    with pytest.raises(AuditError, match="other tokens"):
        replay(shared, disclosed, Bigram(margin=CLEAR_MARGIN + 0.1))
    # Who does not show the tokens cannot say which choice was lost.
    assert not replay(shared, Disclosure(REQUEST, SALTS.request), Bigram(margin=9.0)).same
