"""Replay: a node that computed something else is shown to have done so."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from inference.audit.document import FormatError
from inference.audit.margin_test import HALF, HonestTokens, ModelThresholds, Thresholds
from inference.audit.replay import Disclosure, Made, Prepared, Weighed, replay, shown_in
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
HONEST_TOKENS = HonestTokens("0.1", "0.01", "0.05", 100, 1000)
OTHERS = ModelThresholds("others", bytes(32), HONEST_TOKENS, HONEST_TOKENS)
RULE = Thresholds("1", 10_000, (), OTHERS)
BOUND = HONEST_TOKENS.bound(4, 10_000)


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
    lost: float = 9.0
    fault: str = ""
    resident: bytes = b"\x03" * 32

    def weights(self, receipt: Receipt) -> bytes:
        return self.resident

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
        return Made(tuple(ids), (0.1,) * len(ids))

    def weigh(self, receipt: Receipt, prepared: Prepared, claimed: tuple[int, ...]) -> Weighed:
        """Like a reference, each token by those claimed before it."""
        before = (prepared.prompt_ids[-1], *claimed)
        pairs = zip(claimed, before, strict=False)
        lost = [0.0 if id == last * 31 % self.modulus else self.lost for id, last in pairs]
        return Weighed(tuple(lost), HALF, self.fault)


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
    assert caught.value.evidence["shown"]["outputIds"] == list(lie)


def test_an_answer_that_stopped_early_is_shown() -> None:
    with pytest.raises(AuditError, match="other tokens") as caught:
        replay(answered(HONEST[:3]), Disclosure(REQUEST, SALTS.request, HONEST[:3]), Bigram())
    assert caught.value.evidence["firstDifference"] == 3


def test_ids_that_are_not_the_receipts_are_not_used_as_evidence() -> None:
    with pytest.raises(AuditError) as caught:
        replay(answered((9, 9)), Disclosure(REQUEST, SALTS.request, (1, 2)), Bigram())
    assert "firstDifference" not in caught.value.evidence


def test_other_weights_in_memory_than_the_chain_records_are_shown() -> None:
    with pytest.raises(AuditError, match="other weights than the chain records") as caught:
        replay(answered(HONEST), DISCLOSED, Bigram(resident=b"\x09" * 32))
    assert caught.value.evidence["recordedWeights"] == "0x" + "09" * 32


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


def test_a_call_that_was_not_served_has_no_answer_to_replay() -> None:
    found = replay(answered((), "failed"), DISCLOSED, Bigram())
    assert not found.same
    assert "made no answer" in found.detail


def test_in_another_runtime_tokens_that_lose_by_much_are_shown() -> None:
    lie = (*HONEST[:2], 1, 2)
    disclosed = Disclosure(REQUEST, SALTS.request, lie)
    with pytest.raises(AuditError, match=f"lose 1.8000 logits too much, {BOUND:.4f} are") as caught:
        replay(answered(lie), disclosed, Bigram(threads=2), RULE)
    assert caught.value.evidence["lost"] == ["0.0000", "0.0000", "9.0000", "9.0000"]
    assert caught.value.evidence["verdict"] == {
        "score": "1.800000",
        "bound": f"{BOUND:.6f}",
        "tokens": 4,
        "measured": "other models",
    }


def test_tokens_that_could_not_come_are_shown() -> None:
    disclosed = Disclosure(REQUEST, SALTS.request, (1, 2))
    with pytest.raises(AuditError, match="not the model's") as caught:
        replay(answered((1, 2)), disclosed, Bigram(threads=2, lost=float("inf")), RULE)
    assert caught.value.evidence["lost"] == ["cannot be", "cannot be"]


def test_an_answer_that_ends_where_the_model_does_not_is_shown_in_every_runtime() -> None:
    disclosed = Disclosure(REQUEST, SALTS.request, HONEST)
    with pytest.raises(AuditError, match="it stops where the model goes on"):
        replay(
            answered(HONEST),
            disclosed,
            Bigram(threads=2, fault="it stops where the model goes on"),
            RULE,
        )


def test_the_evidence_convinces_a_third_party_who_has_the_model() -> None:
    lie = (*HONEST[:2], 1, 2)
    with pytest.raises(AuditError) as caught:
        replay(answered(lie), Disclosure(REQUEST, SALTS.request, lie), Bigram(threads=2), RULE)
    signed, shown = shown_in(json.loads(json.dumps(caught.value.evidence)))
    with pytest.raises(AuditError) as again:
        replay(signed, shown, Bigram(threads=2), RULE)
    assert again.value.evidence == caught.value.evidence
    for wrong in ({}, {"receipt": signed.public()}, {"receipt": signed.public(), "shown": {}}):
        with pytest.raises(FormatError):
            shown_in(wrong)


def test_without_its_tokens_an_answer_of_another_runtime_decides_nothing() -> None:
    for shown in (None, (7, 7)):
        disclosed = Disclosure(REQUEST, SALTS.request, shown)
        found = replay(answered((1, 2)), disclosed, Bigram(threads=2), RULE)
        assert not found.same
        assert "its own were not shown" in found.detail


def test_an_honest_call_of_another_arithmetic_is_accepted() -> None:
    tipped = (*HONEST[:3], HONEST[3] ^ 1)
    disclosed = Disclosure(REQUEST, SALTS.request, tipped)
    found = replay(answered(tipped), disclosed, Bigram(threads=2, lost=0.3), RULE)
    assert found.same
    assert found.weighed
    assert f"0.2000 logits too much, {BOUND:.4f} are honest" in found.detail


def test_an_honest_call_replays_whole_and_in_part() -> None:
    assert replay(answered(HONEST), DISCLOSED, Bigram()).same
    assert not replay(answered(HONEST), DISCLOSED, Bigram(threads=2)).weighed
    assert replay(answered(HONEST), DISCLOSED, Bigram(threads=2)).same
    assert replay(answered(HONEST[:3], "partial"), DISCLOSED, Bigram()).same


def test_exactness_that_was_asked_must_be_stated() -> None:
    with pytest.raises(AuditError, match="exactness was asked"):
        replay(answered(HONEST, runtime=SHARED), DISCLOSED, Bigram(exact=True))
    assert replay(answered(HONEST), DISCLOSED, Bigram(exact=True)).same
