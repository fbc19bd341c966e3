"""Anchors on a real chain: what the contract refuses, and what it remembers."""

from __future__ import annotations

import pytest

from inference.audit.anchor import AnchorContract, AnchorEvent, log_id
from inference.audit.checkpoint import Checkpoint, checkpoint_domain, sign
from inference.audit.transfers import transfers_in
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.errors import ChainMismatchError, TransactionFailedError
from registry.signing.signer import Signer, recover
from tests.inference.receipt_samples import STRANGER

SENDER = Signer.anvil(0, chain_id=31337)
ORIGIN = "example.org/log"


@pytest.fixture
def anchors(chain: Chain, deployment: Deployment) -> AnchorContract:
    return AnchorContract(chain, deployment.audit_anchor)


@pytest.fixture
def node() -> Signer:
    return Signer.random()


def head(size: int, fill: int) -> Checkpoint:
    return Checkpoint(ORIGIN, size, bytes([fill]) * 32)


@pytest.mark.parametrize(
    ("size", "fill", "reason"),
    [
        (4, 1, "SizeShrinks"),
        (5, 2, "RootConflict"),
        (5, 1, "AlreadyAnchored"),
        (0, 1, "EmptyLog"),
    ],
)
def test_a_head_that_breaks_the_log_is_refused(
    anchors: AnchorContract, node: Signer, size: int, fill: int, reason: str
) -> None:
    anchors.anchor(SENDER, sign(head(5, 1), node, anchors.domain))
    with pytest.raises(TransactionFailedError) as caught:
        anchors.anchor(SENDER, sign(head(size, fill), node, anchors.domain))
    assert reason in caught.value.reason


def test_a_head_signed_for_another_chain_counts_for_nobody_we_know(
    anchors: AnchorContract, node: Signer
) -> None:
    elsewhere = sign(head(5, 1), node, checkpoint_domain(1, anchors.address))
    anchors.anchor(SENDER, elsewhere)
    assert anchors.latest(node.address, ORIGIN) is None
    assert anchors.history(node.address, ORIGIN) == ()


def test_an_address_without_the_contract_is_not_an_empty_history(chain: Chain) -> None:
    nothing = AnchorContract(chain, STRANGER.address)
    with pytest.raises(ChainMismatchError):
        nothing.history(STRANGER.address, ORIGIN)
    with pytest.raises(ChainMismatchError):
        nothing.latest(STRANGER.address, ORIGIN)


def test_a_log_that_was_never_anchored_has_no_history(
    anchors: AnchorContract, node: Signer
) -> None:
    assert anchors.latest(node.address, ORIGIN) is None
    assert anchors.history(node.address, ORIGIN) == ()


def test_the_log_is_filed_as_the_contract_files_it(anchors: AnchorContract, node: Signer) -> None:
    contract = anchors.chain.contract("AuditAnchor", anchors.address)
    asked = anchors.chain.call(contract.functions.logId(node.address, ORIGIN))
    assert asked == log_id(node.address, ORIGIN)


def test_the_domain_is_the_contracts(anchors: AnchorContract) -> None:
    contract = anchors.chain.contract("AuditAnchor", anchors.address)
    asked = anchors.chain.call(contract.functions.domainSeparator())
    assert asked == anchors.domain.separator()


def test_anybody_may_anchor_and_every_head_is_remembered(
    anchors: AnchorContract, node: Signer
) -> None:
    first = anchors.anchor(SENDER, sign(head(5, 1), node, anchors.domain))
    second = anchors.anchor(SENDER, sign(head(9, 2), node, anchors.domain))
    history = anchors.history(node.address, ORIGIN)
    assert [(event.size, event.root[0], event.tx_hash) for event in history] == [
        (5, 1, first.hash),
        (9, 2, second.hash),
    ]
    assert anchors.history(node.address, ORIGIN, from_block=second.block) == history[1:]
    latest = anchors.latest(node.address, ORIGIN)
    assert latest is not None
    assert (latest.size, latest.root) == (9, bytes([2]) * 32)
    assert latest.anchored_at == anchors.chain.block_at(second.block).timestamp
    assert anchors.latest(node.address, "example.org/other") is None


def test_a_transaction_that_is_not_mined_moved_nothing(
    chain: Chain, deployment: Deployment
) -> None:
    assert transfers_in(chain, b"\x01" * 32, str(deployment.dev_usd)) == ()


def test_an_endpoint_that_drops_the_event_of_an_anchor_is_not_believed(
    anchors: AnchorContract, node: Signer
) -> None:
    anchors.anchor(SENDER, sign(head(5, 1), node, anchors.domain))

    class Forgetful(AnchorContract):
        def _events(self, *asked: object) -> tuple[AnchorEvent, ...]:
            return ()

    with pytest.raises(ChainMismatchError, match="has no event"):
        Forgetful(anchors.chain, anchors.address).latest(node.address, ORIGIN)


def test_an_event_carries_the_signature_that_makes_an_anchor_evidence(
    anchors: AnchorContract, node: Signer
) -> None:
    signed = sign(head(5, 1), node, anchors.domain)
    receipt = anchors.anchor(SENDER, signed)
    (written,) = anchors.anchored_in(receipt)
    assert written.signature == signed.signature
    assert recover(signed.checkpoint.digest(anchors.domain), written.signature) == node.address


def test_anchoring_ten_thousand_receipts_at_a_time_costs_less_than_five_gas_a_call(
    anchors: AnchorContract, node: Signer
) -> None:
    """The whole transaction; the first of a log pays for the word it is kept in."""
    gas = []
    for count in range(1, 4):
        at = Checkpoint(ORIGIN, count * 10_000, b"\xfe" * 31 + bytes([count]))
        gas.append(anchors.anchor(SENDER, sign(at, node, anchors.domain)).gas_used)
    # contracts/README.md names these figures.
    assert gas[0] < 58_500
    assert max(gas[1:]) < 41_500
    assert max(gas[1:]) <= 5 * 10_000
