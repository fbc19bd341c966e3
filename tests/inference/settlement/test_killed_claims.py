"""A process that is killed in the middle of a claim: what it sent is found and noted once."""

from __future__ import annotations

import pytest

from inference.errors import SettlementError
from registry.errors import TransactionUnknownError
from tests.fakes.rpc_proxy import Json, rpc_proxy
from tests.inference.settlement.claimer import claimer
from tests.inference.settlement.stall import Stall

SEND = "eth_sendRawTransaction"
RECEIPT = "eth_getTransactionReceipt"


# The place in the second transaction, the settle, comes after the claim was noted.
@pytest.mark.parametrize(
    ("method", "nth", "noted"),
    [(SEND, 1, []), (RECEIPT, 1, []), (SEND, 2, ["claim"]), (RECEIPT, 2, ["claim"])],
)
def test_what_a_killed_process_sent_is_noted_once_by_the_next(
    stall: Stall, method: str, nth: int, noted: list[str]
) -> None:
    payers = stall.sell(100, 200, 300)
    left = nth

    def kill_at(question: Json, answer: Json) -> Json:
        # The chain has answered: the transaction is mined, and nobody hears of it.
        nonlocal left
        if question["method"] == method:
            left -= 1
            if left == 0:
                process.kill()
        return answer

    with rpc_proxy(stall.devnet.rpc_url) as proxy, claimer(stall, proxy.url) as (process, _):
        proxy.bend = kill_at
        process.join(60)
        assert process.exitcode == -9
    assert [entry["action"] for entry in stall.entries()] == noted
    assert stall.claimed(*payers) == [100, 200, 300]
    stall.restart()
    stall.settlement.recover()
    after = ["claim"] if nth == 1 else ["claim", "settle"]
    assert [entry["action"] for entry in stall.entries()] == after
    stall.settlement.tick()
    stall.settlement.tick()
    assert [entry["action"] for entry in stall.entries()] == ["claim", "settle"]
    assert [note["amount"] for note in stall.notes("settle")] == ["600"]
    stall.reconcile(*payers)


def test_a_claim_that_waits_is_not_sent_again_and_is_noted_once_after_a_restart(
    stall: Stall,
) -> None:
    payers = stall.sell(100, 200)
    stall.devnet.chain.rpc("evm_setAutomine", False)
    stall.restart(wait_s=0.0)
    with pytest.raises(TransactionUnknownError):
        stall.settlement.tick()
    with pytest.raises(SettlementError, match="waits to be mined"):
        stall.settlement.tick()
    assert stall.entries() == []
    stall.restart(wait_s=30.0)
    stall.settlement.recover()
    assert len(stall.shop.sent.line(stall.settlement.signer.address)) == 1
    stall.devnet.mine()
    stall.devnet.chain.rpc("evm_setAutomine", True)
    assert stall.settlement.tick().claimed == 0
    assert [entry["action"] for entry in stall.entries()] == ["claim", "settle"]
    stall.reconcile(*payers)


def test_a_claim_that_the_endpoint_lost_is_offered_again_after_a_restart(stall: Stall) -> None:
    payers = stall.sell(100)
    stall.devnet.chain.rpc("evm_setAutomine", False)
    stall.restart(wait_s=0.0)
    with pytest.raises(TransactionUnknownError) as caught:
        stall.settlement.tick()
    stall.devnet.chain.rpc("anvil_dropTransaction", f"0x{caught.value.tx_hash.hex()}")
    stall.restart(wait_s=30.0)
    stall.settlement.recover()
    stall.devnet.mine()
    stall.devnet.chain.rpc("evm_setAutomine", True)
    stall.settlement.tick()
    [claim] = stall.notes("claim")
    assert claim["transaction"] == f"0x{caught.value.tx_hash.hex()}"
    stall.reconcile(*payers)


def test_an_anchor_that_was_not_noted_is_noted_once_after_a_restart(stall: Stall) -> None:
    stall.settlement.report("something", "happened", "here")
    signed = stall.settlement.checkpoint()
    receipt = stall.settlement.anchors.anchor(stall.settlement.signer, signed)
    assert stall.database.read(stall.shop.log.anchored_size) == 0
    stall.restart()
    stall.settlement.recover()
    assert stall.database.read(stall.shop.log.anchored_size) == signed.checkpoint.size
    assert stall.entries()[-1]["transaction"] == receipt.text
    assert stall.settlement.anchor().receipt is None
    assert len(stall.entries()) == 2


def test_two_processes_that_settle_at_once_claim_and_note_once(stall: Stall) -> None:
    payers = stall.sell(*[100] * 5)
    url = stall.devnet.rpc_url
    with claimer(stall, url) as (_, one), claimer(stall, url) as (_, two):
        assert sorted((one.recv(), two.recv())) == [0, 500]
    assert [entry["action"] for entry in stall.entries()] == ["claim", "settle"]
    stall.reconcile(*payers)
