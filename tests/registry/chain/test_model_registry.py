from __future__ import annotations

from collections.abc import Callable

import pytest

from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.chain.model_registry import ModelRegistry
from registry.errors import RecordUnknownError, TransactionFailedError
from registry.record import Kind, Record, Status, record_id
from registry.signing.signer import Signer

DIGEST = b"\x11" * 32
RUN_DIGEST = b"\x22" * 32


@pytest.fixture
def registry(restored: Devnet, deployment: Deployment) -> ModelRegistry:
    return ModelRegistry(restored.chain, deployment.model_registry)


def refused(error: str, action: Callable[[], object]) -> None:
    with pytest.raises(TransactionFailedError) as caught:
        action()
    assert caught.value.error == error


def test_a_record_that_does_not_exist_is_unknown(registry: ModelRegistry) -> None:
    assert registry.find(DIGEST) is None
    with pytest.raises(RecordUnknownError, match=DIGEST.hex()):
        registry.record(DIGEST)


def test_a_record_is_unknown_at_a_block_before_it(
    registry: ModelRegistry, signers: list[Signer]
) -> None:
    before = registry.chain.head()
    registry.register(signers[1], Kind.DATASET, DIGEST, [])
    with pytest.raises(RecordUnknownError, match=f"at block {before.number}"):
        registry.record(record_id(signers[1].address, DIGEST), block=before)


def test_the_same_digest_twice_is_refused(registry: ModelRegistry, signers: list[Signer]) -> None:
    registry.register(signers[1], Kind.DATASET, DIGEST, [])
    refused("AlreadyRegistered", lambda: registry.register(signers[1], Kind.DATASET, DIGEST, []))


def test_only_the_publisher_revokes_and_only_once(
    registry: ModelRegistry, signers: list[Signer]
) -> None:
    registry.register(signers[1], Kind.DATASET, DIGEST, [])
    id = record_id(signers[1].address, DIGEST)
    refused("NotPublisher", lambda: registry.revoke(signers[2], id, "not mine"))
    registry.revoke(signers[1], id, "wrong labels")
    refused("AlreadyRevoked", lambda: registry.revoke(signers[1], id, "again"))
    record = registry.record(id)
    assert record.status is Status.REVOKED
    assert record.revoked_at >= record.registered_at > 0


def test_a_signed_registration_that_was_changed_or_is_late_is_refused(
    registry: ModelRegistry, signers: list[Signer]
) -> None:
    publisher, relayer = signers[1], signers[2]
    deadline = registry.chain.head().timestamp + 60
    signature = registry.sign_registration(publisher, Kind.DATASET, DIGEST, [], deadline)

    def send(digest: bytes = DIGEST, until: int = deadline, kind: Kind = Kind.DATASET) -> object:
        return registry.register_for(relayer, publisher.address, kind, digest, [], until, signature)

    refused("InvalidSignature", lambda: send(digest=RUN_DIGEST))
    refused("InvalidSignature", lambda: send(until=deadline + 1))
    refused("InvalidSignature", lambda: send(kind=Kind.RUN))
    registry.chain.rpc("evm_increaseTime", 3600)
    refused("SignatureExpired", send)


def test_a_record_is_read_back_whole(registry: ModelRegistry, signers: list[Signer]) -> None:
    publisher = signers[1]
    registry.register(publisher, Kind.DATASET, DIGEST, [])
    dataset = record_id(publisher.address, DIGEST)
    receipt = registry.register(publisher, Kind.RUN, RUN_DIGEST, [dataset])
    at = registry.chain.block_at(receipt.block)
    assert registry.record(record_id(publisher.address, RUN_DIGEST), block=at) == Record(
        id=record_id(publisher.address, RUN_DIGEST),
        publisher=publisher.address,
        kind=Kind.RUN,
        status=Status.ACTIVE,
        registered_at=at.timestamp,
        revoked_at=0,
        manifest_digest=RUN_DIGEST,
        parents=(dataset,),
    )


def test_record_ids_are_those_of_the_contract(
    registry: ModelRegistry, signers: list[Signer]
) -> None:
    function = registry._contract().functions.recordId(signers[1].address, DIGEST)
    assert registry.chain.call(function) == record_id(signers[1].address, DIGEST)


def test_domain_separators_are_those_of_the_contract(registry: ModelRegistry) -> None:
    function = registry._contract().functions.domainSeparator()
    assert registry.chain.call(function) == registry.domain.separator()


def test_a_publisher_without_ether_registers_names_and_revokes_through_a_relayer(
    registry: ModelRegistry, signers: list[Signer]
) -> None:
    publisher, relayer = Signer.random(), signers[2]
    deadline = registry.chain.head().timestamp + 3600
    signature = registry.sign_registration(publisher, Kind.DATASET, DIGEST, [], deadline)
    registry.register_for(relayer, publisher.address, Kind.DATASET, DIGEST, [], deadline, signature)
    id = record_id(publisher.address, DIGEST)
    assert registry.record(id).publisher == publisher.address
    nonce = registry.nonce(publisher.address)
    signature = registry.sign_name(publisher, "reviews", id, nonce, deadline)
    registry.set_name_for(relayer, publisher.address, "reviews", id, nonce, deadline, signature)
    assert registry.resolve(publisher.address, "reviews") == id
    assert registry.nonce(publisher.address) == nonce + 1
    signature = registry.sign_revocation(publisher, id, "over", deadline)
    registry.revoke_for(relayer, id, "over", deadline, signature)
    assert registry.record(id).status is Status.REVOKED


def test_a_name_points_at_a_record_and_can_be_moved(
    registry: ModelRegistry, signers: list[Signer]
) -> None:
    assert registry.resolve(signers[1].address, "latest") is None
    for digest in (DIGEST, RUN_DIGEST):
        registry.register(signers[1], Kind.DATASET, digest, [])
        id = record_id(signers[1].address, digest)
        registry.set_name(signers[1], "latest", id)
        assert registry.resolve(signers[1].address, "latest") == id
