from __future__ import annotations

import pytest

from registry.attestation import Attestation, decode_tag, encode_tag
from registry.chain.attestations import AttestationBook
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.chain.model_registry import ModelRegistry
from registry.errors import ConfigError, RecordError, RecordUnknownError, TransactionFailedError
from registry.record import Kind, record_id
from registry.signing.signer import Signer

DIGEST = b"\x11" * 32
DAY_S = 86_400


@pytest.fixture
def book(restored: Devnet, deployment: Deployment) -> AttestationBook:
    return AttestationBook(restored.chain, deployment.attestations)


@pytest.fixture
def model_id(restored: Devnet, deployment: Deployment, signers: list[Signer]) -> bytes:
    registry = ModelRegistry(restored.chain, deployment.model_registry)
    registry.register(signers[1], Kind.MODEL, DIGEST, [])
    return record_id(signers[1].address, DIGEST)


@pytest.mark.parametrize("tag", ["", "a" * 33, "é", "a\0b", "a\nb"])
def test_a_tag_that_does_not_fit_is_refused(tag: str) -> None:
    with pytest.raises(RecordError, match="not a tag"):
        encode_tag(tag)


@pytest.mark.parametrize("raw", [bytes(32), b"\xff" * 32, b"a\0b".ljust(32, b"\0"), b"a"])
def test_bytes_that_hold_no_tag_are_refused(raw: bytes) -> None:
    with pytest.raises(RecordError, match="no"):
        decode_tag(raw)


def test_an_attestation_of_an_unknown_model_is_refused(
    book: AttestationBook, signers: list[Signer]
) -> None:
    until = book.chain.head().timestamp + DAY_S
    with pytest.raises(TransactionFailedError) as caught:
        book.attest(signers[3], b"\x99" * 32, "integrity", 10_000, until)
    assert caught.value.error == "ModelNotActive"


def test_a_relayed_attestation_that_was_changed_is_refused(
    book: AttestationBook, model_id: bytes, signers: list[Signer]
) -> None:
    now = book.chain.head().timestamp
    true = Attestation(model_id, signers[3].address, "safety", 100, bytes(32), now, now + DAY_S)
    better = Attestation(model_id, signers[3].address, "safety", 9_900, bytes(32), now, now + DAY_S)
    with pytest.raises(TransactionFailedError) as caught:
        book.attest_for(signers[2], better, book.sign(signers[3], true))
    assert caught.value.error == "InvalidSignature"


def test_an_attester_that_is_no_address_is_refused(book: AttestationBook, model_id: bytes) -> None:
    with pytest.raises(ConfigError, match="'somebody' is not the address of an attester"):
        book.attestations_of(model_id, attesters=["somebody"])


def test_many_attestations_of_strangers_do_not_hide_a_trusted_one(
    book: AttestationBook, model_id: bytes, signers: list[Signer]
) -> None:
    reader = AttestationBook(book.chain, book.address, max_read=10)
    until = book.chain.head().timestamp + DAY_S
    trusted = signers[3]
    book.attest(trusted, model_id, "integrity", 10_000, until)
    for score in range(30):
        book.attest(signers[5], model_id, "integrity", score, until)
    assert {found.attester for found in reader.attestations_of(model_id)} == {signers[5].address}
    (found,) = reader.attestations_of(model_id, attesters={trusted.address})
    assert (found.attester, found.score) == (trusted.address, 10_000)


def test_an_attester_with_very_many_attestations_is_read_from_its_newest(
    book: AttestationBook, model_id: bytes, signers: list[Signer]
) -> None:
    reader = AttestationBook(book.chain, book.address, max_read=3)
    until = book.chain.head().timestamp + DAY_S
    for score in range(5):
        book.attest(signers[3], model_id, "integrity", score, until)
        book.attest(signers[4], model_id, "safety", score, until)
    both = [signers[3].address, signers[4].address]
    found = reader.attestations_of(model_id, attesters=both)
    assert [(one.attester, one.score) for one in found] == [
        (attester, score) for attester in sorted(both) for score in (2, 3, 4)
    ]


def test_nobody_trusted_means_nothing_read(
    book: AttestationBook, model_id: bytes, signers: list[Signer]
) -> None:
    until = book.chain.head().timestamp + DAY_S
    receipt = book.attest(signers[3], model_id, "integrity", 10_000, until)
    assert book.attestations_of(model_id, attesters=()) == ()
    mine = [signers[3].address.lower(), signers[3].address]
    assert len(book.attestations_of(model_id, attesters=mine)) == 1
    before = book.chain.block_at(receipt.block - 1)
    assert book.attestations_of(model_id, attesters=mine, block=before) == ()


def test_an_attestation_that_does_not_exist_is_refused(book: AttestationBook) -> None:
    with pytest.raises(RecordUnknownError):
        book.attestation(b"\x99" * 32)


def test_attestations_are_read_back_whole_and_in_order(
    book: AttestationBook, model_id: bytes, signers: list[Signer]
) -> None:
    until = book.chain.head().timestamp + DAY_S
    receipt = book.attest(signers[3], model_id, "integrity", 10_000, until)
    first = Attestation(
        model_id=model_id,
        attester=signers[3].address,
        tag="integrity",
        score=10_000,
        evidence=bytes(32),
        issued_at=book.chain.block_at(receipt.block).timestamp,
        expires_at=until,
    )
    second = Attestation(
        model_id, signers[4].address, "evaluation", 7_800, b"\x05" * 32, until - DAY_S, until
    )
    book.attest_for(signers[2], second, book.sign(signers[4], second))
    assert book.attestations_of(model_id) == (first, second)
    assert book.attestations_of(model_id, block=book.chain.block_at(receipt.block)) == (first,)


def test_ids_are_those_of_the_contract(
    book: AttestationBook, model_id: bytes, signers: list[Signer]
) -> None:
    one = Attestation(model_id, signers[3].address, "safety", 1, b"\x05" * 32, 2, 3)
    function = book._contract().functions.attestationId(
        one.model_id, one.attester, encode_tag(one.tag), one.score, one.evidence, 2, 3
    )
    assert book.chain.call(function) == one.id
    separator = book.chain.call(book._contract().functions.domainSeparator())
    assert separator == book.domain.separator()


def test_a_revoked_attestation_stands_no_more(
    book: AttestationBook, model_id: bytes, signers: list[Signer]
) -> None:
    now = book.chain.head().timestamp
    book.attest(signers[3], model_id, "integrity", 10_000, now + DAY_S)
    (before,) = book.attestations_of(model_id)
    book.revoke(signers[3], before.id)
    (after,) = book.attestations_of(model_id)
    assert before.stands(now + 60)
    assert after.revoked_at > 0
    assert not after.stands(now + 60)


def test_a_tag_that_is_no_text_is_left_out(
    book: AttestationBook, model_id: bytes, signers: list[Signer]
) -> None:
    until = book.chain.head().timestamp + DAY_S
    strange = book._contract().functions.attest(model_id, b"\xff" * 32, 1, bytes(32), until)
    book.chain.send(signers[5], strange)
    book.attest(signers[3], model_id, "integrity", 10_000, until)
    assert [found.attester for found in book.attestations_of(model_id)] == [signers[3].address]
