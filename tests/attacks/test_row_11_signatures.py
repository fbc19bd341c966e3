"""Row 11: signatures that are missing, by others, too late, of another kind, or of another model.

A publisher's signature is his transaction, or what a relayer hands in for him; an attester's
likewise. All is tried on the real contracts, and then the node is asked for the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.attestation import Attestation
from registry.errors import TransactionFailedError
from registry.record import Kind, record_id
from registry.register import register_model
from registry.signing.canonical import encode
from registry.signing.signer import Signer
from registry.workspace import Workspace
from tests.attacks.hall import Case, Hall
from tests.attacks.registered_victim import manifest_for

pytestmark = pytest.mark.timeout(120)
DAY_S = 86_400
NOBODY_VOUCHES = r"step 5 \(policy\): 0 known attesters vouch for the model, 1 are needed"
UNKNOWN = r"step 1 \(record\): there is no record"
# The largest value a signature's s may have: the other half signs the same, in another form.
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def space(hall: Hall) -> Workspace:
    return hall.workspace


@pytest.fixture
def stranger(hall: Hall) -> Signer:
    """An account with ether that nobody lists."""
    return Signer.anvil(9, chain_id=hall.workspace.chain.chain_id)


@pytest.fixture
def unvouched(hall: Hall, folder: Path, request: pytest.FixtureRequest) -> Case:
    """A good model of the good publisher for which nobody has vouched; each test has its own."""
    return register(hall, folder, name=request.node.name[:200])


def register(hall: Hall, folder: Path, name: str, signer: Signer | None = None) -> Case:
    done = register_model(
        folder,
        name=name,
        task="chat",
        parents=(),
        blocks=hall.workspace.blocks,
        registry=hall.workspace.records,
        signer=signer or hall.workspace.signer("publisher"),
    )
    return Case(done.id, folder)


def flipped(signature: bytes) -> bytes:
    return signature[:20] + bytes([signature[20] ^ 1]) + signature[21:]


def malleated(signature: bytes) -> bytes:
    """The same signature in its other form, which a careless check accepts as a second one."""
    s = _ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - signature[64]])


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "missing": lambda signature: b"",
    "zeros": lambda signature: bytes(65),
    "cut off": lambda signature: signature[:64],
    "longer": lambda signature: signature + b"\0",
    "one bit flipped": flipped,
    "the other half": malleated,
    "recovery 29": lambda signature: signature[:64] + b"\x1d",
}


# The publisher


class Publication:
    """A registration that the publisher did not send himself; `send` hands it to the contract."""

    def __init__(self, hall: Hall, folder: Path, name: str) -> None:
        self.space = hall.workspace
        self.publisher = hall.workspace.signer("publisher")
        manifest = {**manifest_for(hall, folder), "name": name}
        self.digest = publish_block(hall, manifest)
        self.case = Case(record_id(self.publisher.address, self.digest), folder)
        self.deadline = hall.workspace.chain.head().timestamp + DAY_S

    def sign(self, signer: Signer | None = None, **changes: Any) -> bytes:
        values = {
            "kind": Kind.MODEL,
            "manifest_digest": self.digest,
            "parents": (),
            "deadline": self.deadline,
            **changes,
        }
        return self.space.records.sign_registration(signer or self.publisher, **values)

    def send(self, relayer: Signer, signature: bytes, **changes: Any) -> None:
        values = {
            "publisher": self.publisher.address,
            "kind": Kind.MODEL,
            "manifest_digest": self.digest,
            "parents": (),
            "deadline": self.deadline,
            **changes,
        }
        self.space.records.register_for(relayer, signature=signature, **values)


@pytest.fixture
def publication(hall: Hall, folder: Path, request: pytest.FixtureRequest) -> Publication:
    return Publication(hall, folder, request.node.name[:200])


def publish_block(hall: Hall, manifest: dict[str, Any]) -> bytes:
    """Store a manifest without recording it; return its digest."""
    return hall.workspace.blocks.put("raw", encode(manifest)).digest


@pytest.mark.parametrize("form", FORMS)
def test_a_publishers_signature_in_any_other_form_records_nothing(
    hall: Hall, stranger: Signer, publication: Publication, form: str
) -> None:
    bad = FORMS[form](publication.sign())
    with pytest.raises(TransactionFailedError, match="InvalidSignature"):
        publication.send(stranger, bad)
    hall.refuses(publication.case, UNKNOWN)


def test_a_publishers_signature_by_another_key_records_nothing(
    hall: Hall, stranger: Signer, publication: Publication
) -> None:
    with pytest.raises(TransactionFailedError, match="InvalidSignature"):
        publication.send(stranger, publication.sign(stranger))
    hall.refuses(publication.case, UNKNOWN)


@pytest.mark.parametrize(
    "changes",
    [
        {"manifest_digest": b"\x07" * 32},
        {"kind": Kind.DATASET},
        {"deadline": 2**40},
        {"parents": (b"\x08" * 32,)},
    ],
    ids=str,
)
def test_a_publishers_signature_of_something_else_records_nothing(
    hall: Hall, stranger: Signer, publication: Publication, changes: dict[str, Any]
) -> None:
    """The subject that was signed is not the one that is recorded."""
    with pytest.raises(TransactionFailedError, match="InvalidSignature"):
        publication.send(stranger, publication.sign(**changes))
    hall.refuses(publication.case, UNKNOWN)


def test_a_publishers_signature_that_is_too_late_records_nothing(
    hall: Hall, stranger: Signer, publication: Publication
) -> None:
    publication.deadline = hall.workspace.chain.head().timestamp - 1
    with pytest.raises(TransactionFailedError, match="SignatureExpired"):
        publication.send(stranger, publication.sign())
    hall.refuses(publication.case, UNKNOWN)


def test_a_publishers_signature_for_another_contract_or_chain_records_nothing(
    hall: Hall, stranger: Signer, space: Workspace, publication: Publication
) -> None:
    """The typed data of another domain: the same words, said to somebody else."""
    elsewhere = type(space.records)(space.chain, space.attestations.address)
    signature = elsewhere.sign_registration(
        publication.publisher, Kind.MODEL, publication.digest, (), publication.deadline
    )
    with pytest.raises(TransactionFailedError, match="InvalidSignature"):
        publication.send(stranger, signature)
    hall.refuses(publication.case, UNKNOWN)


def test_a_model_that_a_stranger_published_under_his_own_name_is_refused(
    hall: Hall, folder: Path, space: Workspace, stranger: Signer
) -> None:
    """The very manifest of a good model, vouched for by the good attester: only not his to give."""
    digest = space.records.record(hall.good.id).manifest_digest
    space.records.register(stranger, Kind.MODEL, digest, ())
    id = record_id(stranger.address, digest)
    vouch(space, id)
    hall.refuses(Case(id, folder), rf"step 5 \(policy\): publisher {stranger.address} is not trust")


def test_what_a_publisher_signed_and_a_stranger_sent_is_loaded(
    hall: Hall, stranger: Signer, space: Workspace, publication: Publication
) -> None:
    publication.send(stranger, publication.sign())
    vouch(space, publication.case.id)
    hall.accepts(publication.case)


# The attester


def vouch(space: Workspace, id: bytes, signer: Signer | None = None, **changes: Any) -> None:
    values = {
        "tag": "integrity",
        "score": 10_000,
        "expires_at": space.chain.head().timestamp + DAY_S,
        **changes,
    }
    space.attestations.attest(signer or space.signer("attester"), id, **values)


def statement(space: Workspace, case: Case, **changes: Any) -> Attestation:
    now = space.chain.head().timestamp
    made = Attestation(
        model_id=case.id,
        attester=space.signer("attester").address,
        tag="integrity",
        score=10_000,
        evidence=bytes(32),
        issued_at=now,
        expires_at=now + DAY_S,
    )
    return replace(made, **changes)


def demanding(hall: Hall, **changes: Any) -> Hall:
    """Return the hall of a reader with a stricter policy."""
    space = hall.workspace
    policy = replace(space.config.policy, **changes)
    return replace(hall, workspace=replace(space, config=replace(space.config, policy=policy)))


def test_a_model_that_nobody_vouched_for_is_refused(hall: Hall, unvouched: Case) -> None:
    hall.refuses(unvouched, NOBODY_VOUCHES)


def test_an_attestation_by_an_unlisted_key_does_not_count(
    hall: Hall, space: Workspace, stranger: Signer, unvouched: Case
) -> None:
    vouch(space, unvouched.id, stranger)
    # Not even the publisher may vouch for himself.
    vouch(space, unvouched.id, space.signer("publisher"))
    hall.refuses(unvouched, NOBODY_VOUCHES)


@pytest.mark.parametrize("form", FORMS)
def test_an_attesters_signature_in_any_other_form_is_not_taken(
    hall: Hall, space: Workspace, stranger: Signer, unvouched: Case, form: str
) -> None:
    made = statement(space, unvouched)
    bad = FORMS[form](space.attestations.sign(space.signer("attester"), made))
    with pytest.raises(TransactionFailedError, match="InvalidSignature"):
        space.attestations.attest_for(stranger, made, bad)
    hall.refuses(unvouched, NOBODY_VOUCHES)


def test_an_attesters_name_under_a_strangers_signature_is_not_taken(
    hall: Hall, space: Workspace, stranger: Signer, unvouched: Case
) -> None:
    made = statement(space, unvouched)
    with pytest.raises(TransactionFailedError, match="InvalidSignature"):
        space.attestations.attest_for(stranger, made, space.attestations.sign(stranger, made))
    hall.refuses(unvouched, NOBODY_VOUCHES)


@pytest.mark.parametrize(
    "changes",
    [
        {"tag": "safety"},
        {"score": 9_999},
        {"evidence": b"\x07" * 32},
        {"model_id": b"\x07" * 32},
    ],
    ids=str,
)
def test_a_signed_attestation_cannot_be_bent_afterwards(
    hall: Hall, space: Workspace, stranger: Signer, unvouched: Case, changes: dict[str, Any]
) -> None:
    made = statement(space, unvouched)
    signature = space.attestations.sign(space.signer("attester"), replace(made, **changes))
    with pytest.raises(TransactionFailedError, match="InvalidSignature"):
        space.attestations.attest_for(stranger, made, signature)
    hall.refuses(unvouched, NOBODY_VOUCHES)


def test_an_attestation_of_another_model_does_not_count(
    hall: Hall, space: Workspace, stranger: Signer, folder: Path, unvouched: Case
) -> None:
    """A good attestation of another model of the same publisher, handed in for this one."""
    other = register(hall, folder, name="another model")
    made = statement(space, other)
    signature = space.attestations.sign(space.signer("attester"), made)
    with pytest.raises(TransactionFailedError, match="InvalidSignature"):
        space.attestations.attest_for(stranger, replace(made, model_id=unvouched.id), signature)
    space.attestations.attest_for(stranger, made, signature)
    hall.refuses(unvouched, NOBODY_VOUCHES)
    hall.accepts(other)


def test_an_attestation_of_the_same_files_under_another_record_does_not_count(
    hall: Hall, space: Workspace, folder: Path, unvouched: Case
) -> None:
    """Same bytes, same name, another publisher: a bundle for what looks like the same model."""
    attester = space.signer("attester")
    twin = register(hall, folder, name="same bytes", signer=attester)
    vouch(space, twin.id)
    hall.refuses(unvouched, NOBODY_VOUCHES)
    hall.refuses(twin, f"publisher {attester.address} is not trusted")


def test_an_attestation_that_ended_does_not_count(
    hall: Hall, space: Workspace, stranger: Signer, unvouched: Case
) -> None:
    now = space.chain.head().timestamp
    made = statement(space, unvouched, issued_at=now - DAY_S, expires_at=now - 1)
    signature = space.attestations.sign(space.signer("attester"), made)
    with pytest.raises(TransactionFailedError, match="AttestationExpired"):
        space.attestations.attest_for(stranger, made, signature)
    hall.refuses(unvouched, NOBODY_VOUCHES)


def test_an_attestation_by_a_key_that_is_listed_no_more_does_not_count(
    hall: Hall, space: Workspace, unvouched: Case
) -> None:
    """The reader took the attester off his list: what he signed before counts no more."""
    vouch(space, unvouched.id)
    hall.accepts(unvouched)
    other = Signer.anvil(8, chain_id=space.chain.chain_id).address
    strict = demanding(hall, attesters=frozenset({other}))
    strict.refuses_here(unvouched, NOBODY_VOUCHES)


def test_an_attestation_dated_in_the_future_is_not_taken(
    hall: Hall, space: Workspace, stranger: Signer, unvouched: Case
) -> None:
    now = space.chain.head().timestamp
    made = statement(space, unvouched, issued_at=now + DAY_S, expires_at=now + 2 * DAY_S)
    signature = space.attestations.sign(space.signer("attester"), made)
    with pytest.raises(TransactionFailedError, match="IssuedInFuture"):
        space.attestations.attest_for(stranger, made, signature)
    hall.refuses(unvouched, NOBODY_VOUCHES)


def test_an_attestation_of_another_kind_does_not_count_where_kinds_are_asked_for(
    hall: Hall, space: Workspace, unvouched: Case
) -> None:
    """The predicate: that somebody measured its manners says nothing about its bytes."""
    vouch(space, unvouched.id, tag="evaluation")
    strict = demanding(hall, tags=frozenset({"integrity"}))
    strict.refuses_here(unvouched, NOBODY_VOUCHES)
    for tag in ("Integrity", "integrity ", "integrit"):
        vouch(space, unvouched.id, tag=tag)
    strict.refuses_here(unvouched, NOBODY_VOUCHES)
    vouch(space, unvouched.id)
    strict.accepts(unvouched)


def test_an_attestation_that_the_model_failed_does_not_count(
    hall: Hall, space: Workspace, unvouched: Case
) -> None:
    vouch(space, unvouched.id, score=0)
    vouch(space, unvouched.id, score=4_999)
    hall.refuses(unvouched, NOBODY_VOUCHES)


def test_an_attestation_that_was_taken_back_does_not_count(
    hall: Hall, space: Workspace, stranger: Signer, unvouched: Case
) -> None:
    vouch(space, unvouched.id)
    hall.accepts(unvouched)
    (found,) = space.attestations.attestations_of(unvouched.id)
    with pytest.raises(TransactionFailedError, match="NotAttester"):
        space.attestations.revoke(stranger, found.id)
    hall.accepts(unvouched)
    space.attestations.revoke(space.signer("attester"), found.id)
    hall.refuses(unvouched, NOBODY_VOUCHES)
    # Nor can what was taken back be handed in a second time.
    signature = space.attestations.sign(space.signer("attester"), found)
    with pytest.raises(TransactionFailedError, match="DuplicateAttestation"):
        space.attestations.attest_for(stranger, replace(found, revoked_at=0), signature)
    hall.refuses(unvouched, NOBODY_VOUCHES)


def test_one_attester_who_signs_often_is_one(hall: Hall, space: Workspace, unvouched: Case) -> None:
    for score in range(9_990, 10_000):
        vouch(space, unvouched.id, score=score)
    strict = demanding(hall, min_attestations=2)
    strict.refuses_here(unvouched, "1 known attesters vouch for the model, 2 are needed")


def test_nothing_but_a_recorded_model_can_be_vouched_for(space: Workspace) -> None:
    digest = b"\x09" * 32
    publisher = space.signer("publisher")
    space.records.register(publisher, Kind.DATASET, digest, ())
    with pytest.raises(TransactionFailedError, match="NotAModel"):
        vouch(space, record_id(publisher.address, digest))
    for id in (b"\x07" * 32, bytes(32)):
        with pytest.raises(TransactionFailedError, match="ModelNotActive"):
            vouch(space, id)
