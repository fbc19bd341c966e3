"""A stall: a till with a chain of its own, its line of transactions on disk, many channels."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from sqlalchemy import Connection

from inference.audit.accounts import Accounts
from inference.audit.bodies import SettlementBody
from inference.audit.plan_accounts import PlanAccounts
from inference.claiming import ClaimPolicy
from inference.database import Database
from inference.payments.channel import DepositPayment
from inference.payments.ledger import ChannelLedger
from inference.rounds import Rounds
from inference.sent_book import SentBook
from inference.settlement import Settlement
from registry.chain import calldata
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.chain.fees import FeePolicy
from registry.signing.signer import Signer
from tests.inference.payments.payer import Payer
from tests.inference.payments.shop import FUNDER, Shop

# A deposit takes 100,000 gas; more in one transaction would not fit into a block.
_AT_ONCE = 50
PATIENT = FeePolicy()


@dataclass
class Stall:
    """`restart` is a process that opens the same database; the chain is asked at `url`."""

    devnet: Devnet
    deployment: Deployment
    folder: Path
    url: str = ""
    wait_s: float = 30.0
    fees: FeePolicy = PATIENT
    policy: ClaimPolicy = ClaimPolicy(max_age_s=10**9)  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        address = f"sqlite:///{self.folder}/node.db"
        self.database = Database(
            address,
            chain_id=31337,
            channels=self.deployment.payment_channels,
            node=FUNDER.address,
        )
        self.chain = Chain(
            self.url or self.devnet.rpc_url,
            chain_id=31337,
            receipt_timeout_s=self.wait_s,
            fees=self.fees,
        )
        self.shop = Shop(self.chain, self.deployment, self.database)
        self.shop.sent = SentBook(self.database)
        self.chain.keep(self.shop.sent)
        self.settlement: Settlement = replace(
            self.shop.settlement, book=self.shop.sent, policy=self.policy
        )

    def restart(self, **changes: Any) -> None:
        """Stop, and open again with other settings."""
        self.database.close()
        for name, value in changes.items():
            setattr(self, name, value)
        self.open()

    @cached_property
    def contract(self) -> Any:
        """The channels, asked past whatever stands in front of the chain."""
        return self.devnet.chain.contract("PaymentChannels", self.deployment.payment_channels)

    def sell(self, *owed: int, deposit: int = 1_000) -> list[Payer]:
        """Open a channel for each amount, by one wallet, and sell calls of that amount on it."""
        key = Signer.random()
        terms = self.shop.cashier.terms
        payers = [Payer(terms, key, secrets.token_bytes(32)) for _ in owed]
        mint = self.devnet.chain.contract("DevUSD", self.shop.token.address).functions.mint
        self.devnet.chain.send(FUNDER, mint(key.address, deposit * len(owed)))
        self.devnet.chain.rpc("anvil_setBalance", key.address, hex(10**18))
        calls = [self._deposit(payer, deposit) for payer in payers]
        for first in range(0, len(calls), _AT_ONCE):
            batch = self.contract.functions.multicall(calls[first : first + _AT_ONCE])
            self.devnet.chain.send(FUNDER, batch)
        self.charge(*zip(payers, owed, strict=True))
        return payers

    def charge(self, *sold: tuple[Payer, int]) -> None:
        """Sell to each up to a cumulative amount."""
        ledger, now = self.shop.cashier.ledger, int(time.time())
        fresh = [p for p, _ in sold if self.database.read(account(ledger, p)) is None]
        states = {name(p): self.shop.channels.state(name(p), now=now) for p in fresh}

        def work(tx: Connection) -> None:
            for payer, total in sold:
                before = account(ledger, payer)(tx)
                quote = total - (before.charged if before else 0)
                taken = ledger.reserve(
                    tx,
                    payer.pays(total, now=now),
                    quote=quote,
                    state=states.get(name(payer)),
                    now=now,
                )
                ledger.commit(tx, taken, quote)

        self.database.write_now(work)

    def deposit(self, payer: Payer, amount: int) -> None:
        """Deposit again."""
        mint = self.devnet.chain.contract("DevUSD", self.shop.token.address).functions.mint
        self.devnet.chain.send(FUNDER, mint(payer.key.address, amount))
        call = self.contract.functions.multicall([self._deposit(payer, amount)])
        self.devnet.chain.send(FUNDER, call)

    def withdraw(self, payer: Payer, amount: int) -> None:
        """Ask the contract for money back, as the payer."""
        self.devnet.chain.send(
            payer.key, self.contract.functions.initiateWithdraw(*_of(payer), amount)
        )

    def finalize(self, payer: Payer) -> None:
        self.devnet.chain.send(payer.key, self.contract.functions.finalizeWithdraw(*_of(payer)))

    def claimed(self, *payers: Payer) -> list[int]:
        """What the chain says was claimed of each."""
        channels = self.contract.functions.channels
        return [int(self.devnet.chain.call(channels(p.channel_id))[1]) for p in payers]

    def entries(self) -> list[dict[str, Any]]:
        return self.shop.entries()

    def notes(self, action: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries() if entry.get("action") == action]

    def incidents(self) -> list[tuple[str, str, str]]:
        found = [entry for entry in self.entries() if "incident" in entry]
        return [(entry["incident"], entry["subject"], entry["detail"]) for entry in found]

    def reconcile(self, *payers: Payer) -> None:
        """Do as the auditor does: each transaction once, each claim owed, the last one on chain."""
        notes = [entry for entry in self.entries() if "action" in entry]
        times = Counter((entry["action"], entry["transaction"]) for entry in notes)
        assert set(times.values()) <= {1}, times
        accounts = Accounts("eip155:31337", PlanAccounts({}.__getitem__))
        last: dict[bytes, int] = {}
        for payer in payers:
            found = self.database.read(account(self.shop.cashier.ledger, payer))
            assert found is not None
            accounts.channels[payer.channel_id] = found.owed
        for seq, entry in enumerate(notes):
            body = SettlementBody.from_json(entry)
            accounts.check_claims(seq, body)
            last |= {claim.channel: claim.total_claimed for claim in body.claims}
        assert [last.get(p.channel_id, 0) for p in payers] == self.claimed(*payers)

    def rounds(self, clock: Callable[[], float]) -> Rounds:
        return Rounds(self.settlement, look_s=15, every_s=60, clock=clock)

    def _deposit(self, payer: Payer, amount: int) -> bytes:
        deposit = payer.deposits(amount, amount, now=self.devnet.chain.head().timestamp).payment
        assert isinstance(deposit, DepositPayment)
        data = encode(
            ["uint256", "uint256", "uint256", "bytes"],
            [deposit.valid_after, deposit.valid_before, deposit.salt, deposit.signature],
        )
        collector = payer.terms.collector
        call = self.contract.functions.deposit(*_of(payer), amount, collector, data)
        return bytes.fromhex(calldata.encode(call)[2:])


def name(payer: Payer) -> str:
    return f"0x{payer.channel_id.hex()}"


def account(ledger: ChannelLedger, payer: Payer) -> Callable[[Connection], Any]:
    return lambda tx: ledger.account(tx, name(payer))


def _of(payer: Payer) -> tuple[Any]:
    return (tuple(vars(payer.config).values()),)
