"""Claims in batches: what the contract refuses stands alone, what is too large is cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference.claiming import MAX_ROWS, ROW_GAS, Claimed, Claiming
from inference.payments.channels_contract import ChannelsContract
from inference.payments.claim import Claim
from registry.errors import GasTooDearError, TransactionRefusedError
from registry.signing.signer import Signer
from tests.inference.settlement.stall import Stall, name


def spoil(stall: Stall, *payers: Any) -> None:
    """Exchange stored signatures for others' of the right length."""
    forged = Signer.random().sign_digest(bytes(32))
    for payer in payers:
        stall.database.write_now(
            lambda tx, payer=payer: (
                tx.exec_driver_sql(
                    "UPDATE channels SET voucher_signature = ? WHERE channel_id = ?",
                    (forged, name(payer)),
                )
                and None
            )
        )


@pytest.mark.parametrize("bad", [(5,), (1, 4, 8), tuple(range(9))], ids=str)
def test_rows_that_the_contract_refuses_are_left_out_one_by_one_and_told_once(
    stall: Stall, bad: tuple[int, ...]
) -> None:
    payers = stall.sell(*[100] * 9)
    spoil(stall, *(payers[i] for i in bad))
    settled = stall.settlement.tick()
    assert settled.channels == 9 - len(bad)
    assert settled.claimed == settled.settled == 100 * (9 - len(bad))
    assert stall.claimed(*payers) == [0 if i in bad else 100 for i in range(9)]
    refused = {(name(payers[i]), "claim refused") for i in bad}
    assert {(subject, what) for what, subject, _ in stall.incidents()} == refused
    assert all("InvalidSignature" in detail for *_, detail in stall.incidents())
    stall.settlement.tick()
    assert len(stall.incidents()) == len(bad)
    stall.reconcile(*payers)


def test_a_sender_that_cannot_send_blames_no_row(stall: Stall) -> None:
    payers = stall.sell(*[100] * 4)
    stall.devnet.chain.rpc("anvil_setBalance", stall.settlement.signer.address, hex(10**9))
    with pytest.raises((TransactionRefusedError, GasTooDearError)):
        stall.settlement.tick()
    assert stall.entries() == []
    stall.devnet.chain.rpc("anvil_setBalance", stall.settlement.signer.address, hex(10**22))
    assert stall.settlement.tick().claimed == 400
    stall.reconcile(*payers)


@pytest.mark.parametrize("rows_fit", [1, 8])
def test_a_batch_takes_no_more_gas_than_its_part_of_a_block(stall: Stall, rows_fit: int) -> None:
    payers = stall.sell(*[100] * 16)
    max_gas = 60_000 + int(rows_fit * ROW_GAS * 1.4)
    claims = stall.database.read(stall.settlement.ledger.claims)
    receipts: list[Any] = []
    claiming = Claiming(stall.settlement.channels, stall.settlement.signer, receipts.append, print)
    done = claiming.claim(claims, max_gas=max_gas)
    assert (done.channels, done.amount) == (16, 1_600)
    assert len(receipts) >= -(-16 // (rows_fit * 2))
    assert all(receipt.gas_used <= max_gas for receipt in receipts)
    assert stall.claimed(*payers) == [100] * 16


def test_one_row_that_is_too_large_for_a_batch_is_claimed_by_itself(stall: Stall) -> None:
    payers = stall.sell(100, 100)
    claims = stall.database.read(stall.settlement.ledger.claims)
    claiming = Claiming(stall.settlement.channels, stall.settlement.signer, lambda _: None, print)
    assert claiming.claim(claims, max_gas=1).channels == 2
    assert stall.claimed(*payers) == [100, 100]


def test_each_batch_is_one_note_with_its_rows_and_its_gas(stall: Stall) -> None:
    limit = stall.chain.gas_limit()
    few = replace(stall.policy, gas_percent=1)
    stall.restart(policy=few)
    payers = stall.sell(*range(1, 13))
    settled = stall.settlement.tick()
    notes = stall.notes("claim")
    assert len(notes) > 1
    assert sum(len(note["claims"]) for note in notes) == 12
    gas = [int(note["gasUsed"]) for note in (*notes, *stall.notes("settle"))]
    assert sum(gas) == settled.gas_used
    assert max(gas) <= limit // 100
    assert [note["amount"] for note in stall.notes("settle")] == [str(sum(range(1, 13)))]
    stall.reconcile(*payers)


class Deaf(ChannelsContract):
    """Estimates nothing: counts how many rows it is asked about at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def claim_gas(self, signer: Signer, authorizer: Signer, claims: Any) -> int:
        self.asked.append(len(claims))
        raise TransactionRefusedError("deaf")


def test_no_transaction_is_larger_than_clients_pass_on(stall: Stall) -> None:
    stall.sell(1)
    claims: list[Claim] = stall.database.read(stall.settlement.ledger.claims) * (MAX_ROWS + 1)
    deaf = Deaf()
    with pytest.raises(TransactionRefusedError):
        Claiming(deaf, stall.settlement.signer, lambda _: None, print).claim(claims, max_gas=10**9)
    assert deaf.asked == [MAX_ROWS]
    call = stall.settlement.channels._claiming(
        stall.settlement.signer, Signer.random(), claims[:MAX_ROWS]
    )
    assert len(call.build_transaction({"gas": 1, "nonce": 0, "gasPrice": 1})["data"]) // 2 < 128_000


def test_nothing_to_claim_is_no_transaction(stall: Stall) -> None:
    assert stall.settlement.tick().gas_used == 0
    assert stall.entries() == []
    assert Claimed() + Claimed(1, 2, 3) == Claimed(1, 2, 3)
