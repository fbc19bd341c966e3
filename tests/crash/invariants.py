"""What must hold of a node's books, however often it was killed.

1. the log has no gap: every leaf's body is there and has its hash, every stored node of the tree
   follows from the leaves, and the log only grew since the death before
2. log and receipts hold the same receipts; each is signed, stands after the entry it names, and
   its charge follows from price and tokens
3. per channel: the sum of its receipts' charges is what its account says (charged, less credit,
   less the quotes of streams in flight), and never above the ceiling its payer signed last, whose
   signature is kept
4. every answer that arrived whole was charged, and its receipt is in the log as it was told
5. no request is charged twice, and none that nobody sent
6. no authorisation that moved money is forgotten; none is settled that did not
7. once the node is up again nothing is left in flight, and each `exact` payment on chain has
   either its receipt or an incident in the log that names it
8. on chain: no channel was claimed beyond its receipts, each holds exactly the deposits that were
   signed less refunds, and each payer's purse lacks what it signed away and no more

`after_death` checks 1 to 6, `after_restart` 7 and 8; both return sentences, none if all holds.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.audit import merkle
from inference.audit.entry import RECEIPT, parse_entry
from inference.errors import AuditError
from inference.payments.channel import Voucher
from inference.payments.channels_contract import ChannelsContract
from inference.payments.exact import SCHEME as EXACT
from inference.payments.token_contract import TokenContract
from inference.receipt_format import Receipt, parse_receipt
from inference.receipts import SignedReceipt, receipt_domain, salted_hash, verify_receipt
from registry.chain.dev_usd import ONE
from registry.errors import SignatureError
from registry.signing.signer import recover
from tests.crash.customers import Customer
from tests.crash.world import World

_FUNDS = 100 * ONE
_TABLES = ("channels", "reservations", "authorizations", "receipts", "log_entries", "log_nodes")


@dataclass(frozen=True)
class Books:
    """All rows of a node's database at one moment."""

    channels: list[dict[str, Any]]
    reservations: list[dict[str, Any]]
    authorizations: list[dict[str, Any]]
    receipts: list[dict[str, Any]]
    log_entries: list[dict[str, Any]]
    log_nodes: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Books:
        """Read a database file in one transaction; a live one too."""
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            return cls(*(_rows(connection, table) for table in _TABLES))
        finally:
            connection.close()

    def incidents(self) -> list[dict[str, Any]]:
        """Return the incidents in the log."""
        entries = [json.loads(row["body"]) for row in self.log_entries]
        return [entry["body"] for entry in entries if entry["kind"] == "incident"]

    def parsed(self) -> list[tuple[dict[str, Any], Receipt]]:
        """Return the receipts' rows, each with what its JSON says."""
        return [(row, parse_receipt(row["json"].encode())) for row in self.receipts]


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")
    return [dict(row) for row in rows]


@dataclass
class Inspector:
    """Remembers between two deaths what must not change."""

    world: World
    customers: list[Customer]
    leaves: list[bytes] = field(default_factory=list)

    def after_death(self, books: Books) -> list[str]:
        """Check what the file of a dead node says."""
        return [
            *self._log(books),
            *self._receipts(books),
            *self._channels(books),
            *self._answers(books),
            *self._charges(books),
            *self._authorizations(books),
        ]

    def after_restart(self, books: Books) -> list[str]:
        """Check what a node that is up again made of it; call it while nobody buys."""
        return [*self._in_flight(books), *self._explained(books), *self._chain(books)]

    def _log(self, books: Books) -> Iterator[str]:
        entries = books.log_entries
        if [row["seq"] for row in entries] != list(range(len(entries))):
            yield "1: the log has gaps"
        leaves = [merkle.leaf_hash(row["body"]) for row in entries]
        if leaves != [row["leaf_hash"] for row in entries]:
            yield "1: a leaf is not the hash of its body"
        if leaves[: len(self.leaves)] != self.leaves:
            yield f"1: the log of {len(self.leaves)} entries was rewritten or cut"
        self.leaves = leaves
        node = merkle.nodes_of(leaves)
        stored = {(row["level"], row["position"]): row["hash"] for row in books.log_nodes}
        needed: dict[tuple[int, int], bytes] = {}

        def kept(level: int, position: int) -> bytes:
            needed[level, position] = node(level, position)
            return leaves[position] if level == 0 else stored.get((level, position), b"")

        if merkle.tree_root(len(leaves), kept) != merkle.root(leaves):
            yield "1: the stored nodes do not lead to the root of the leaves"
        for (level, position), value in stored.items():
            if node(level, position) != value:
                yield f"1: node {level}/{position} is not what its leaves make it"

    def _receipts(self, books: Books) -> Iterator[str]:
        contracts = self.world.settings.registry.contracts
        domain = receipt_domain(contracts.chain_id, contracts.audit_anchor)
        node = self.world.workspace.signer("node").address
        logged = {}
        for row in books.log_entries:
            entry = parse_entry(row["body"])
            if entry.kind == RECEIPT:
                logged[row["seq"]] = entry.body
        kept = {row["seq"]: row for row in books.receipts}
        if logged.keys() != kept.keys():
            yield f"2: receipts {logged.keys() ^ kept.keys()} are in one place only"
        for seq in logged.keys() & kept.keys():
            signed = SignedReceipt.from_json(logged[seq])
            if signed.receipt.encode().decode() != kept[seq]["json"]:
                yield f"2: receipt {seq} differs between log and table"
            if seq and signed.receipt.prev != books.log_entries[seq - 1]["leaf_hash"]:
                yield f"2: receipt {seq} does not follow entry {seq - 1}"
            try:
                verify_receipt(signed, node=node, domain=domain)
            except AuditError as error:
                yield f"2: receipt {seq}: {error.message}"

    def _channels(self, books: Books) -> Iterator[str]:
        charged, flying = _charged(books), Counter[str]()
        for row in books.reservations:
            if row["kind"] == "stream":
                flying[row["channel_id"]] += int(row["amount"])
        for row in books.channels:
            name, signed = row["channel_id"], int(row["signed_max"])
            told, credit = int(row["charged"]), int(row["credit"])
            if told - credit - flying[name] != charged[name]:
                yield (
                    f"3: {name} says {told} - {credit} - {flying[name]}, "
                    f"its receipts {charged[name]}"
                )
            ceilings = {c for customer in self.customers for c in customer.ceilings.get(name, ())}
            if signed not in ceilings | {0}:
                yield f"3: {name}: nobody signed {signed}"
            if not charged[name] <= told <= max(signed, charged[name]):
                yield f"3: {name}: charged {charged[name]}, told {told}, signed {signed}"
            if charged[name] > signed:
                yield f"3: {name}: {charged[name]} charged, {signed} signed"
            if signed and not self._signed_by(row, signed):
                yield f"3: {name}: the kept signature is not its payer's for {signed}"
        for name in charged.keys() - {row["channel_id"] for row in books.channels}:
            yield f"3: {name} was charged and has no account"

    def _signed_by(self, row: dict[str, Any], ceiling: int) -> bool:
        contracts = self.world.settings.registry.contracts
        domain = ChannelsContract(self.world.workspace.chain, contracts.payment_channels).domain
        voucher = Voucher(bytes.fromhex(row["channel_id"][2:]), ceiling, b"")
        try:
            signer = recover(voucher.digest(domain), bytes(row["voucher_signature"]))
        except SignatureError:
            return False
        return signer == row["payer"]

    def _answers(self, books: Books) -> Iterator[str]:
        by_id = {receipt.id: receipt for _, receipt in books.parsed()}
        for attempt in (a for customer in self.customers for a in customer.attempts):
            if attempt.outcome != "answered" or attempt.signed is None:
                continue
            told = attempt.signed.receipt
            if by_id.get(told.id) != told:
                yield f"4: the answer with receipt {told.id} left, and the log does not have it"
            if told.status != "ok" or not told.payment.charged:
                yield f"4: the answer with receipt {told.id} is {told.status}, uncharged"
            try:
                verify_receipt(
                    attempt.signed,
                    node=told.node,
                    domain=self._domain,
                    request=attempt.sent,
                    response=attempt.received,
                )
            except AuditError as error:
                yield f"4: {error.message}"

    @property
    def _domain(self) -> Any:
        contracts = self.world.settings.registry.contracts
        return receipt_domain(contracts.chain_id, contracts.audit_anchor)

    def _charges(self, books: Books) -> Iterator[str]:
        sent = defaultdict(list)
        for customer in self.customers:
            sent[customer.signer.address] = [attempt.sent for attempt in customer.attempts]
        seen: Counter[bytes] = Counter()
        for row, receipt in books.parsed():
            if not receipt.payment.charged:
                continue
            salt = bytes.fromhex(json.loads(row["salts"])["request"][2:])
            asked = [
                body
                for body in sent[receipt.payment.payer]
                if salted_hash(salt, body) == receipt.request.hash
            ]
            if len(asked) != 1:
                yield f"5: receipt {receipt.seq} is about a request that nobody sent"
            seen.update(asked)
        for body, times in seen.items():
            if times > 1:
                yield f"5: charged {times} times: {body.decode():.200}"

    def _authorizations(self, books: Books) -> Iterator[str]:
        rows = {row["nonce"]: row for row in books.authorizations}
        on_chain = self._used()
        for name, signed in self._signed().items():
            used = on_chain.get((signed.payer, name), "")
            state = rows[name]["state"] if name in rows else "not there"
            if used and state not in ("settling", "unknown", "settled", "paid", "serving"):
                yield f"6: {name} moved {signed.amount} on chain, and is {state}"
            if state == "settled" and not used:
                yield f"6: {name} is settled, and did not move"
        for name in rows.keys() - self._signed().keys():
            yield f"6: {name} was signed by nobody"

    def _in_flight(self, books: Books) -> Iterator[str]:
        for row in books.reservations:
            yield f"7: reservation {row['id']} ({row['kind']}) is in flight, and no call is"
        for row in books.authorizations:
            if row["state"] in ("reserved", "settling"):
                yield f"7: {row['purpose']} {row['nonce']} is {row['state']}, and no call is"

    def _explained(self, books: Books) -> Iterator[str]:
        told = " ".join(
            str(i) for i in books.incidents() if i["incident"] == "paid without an answer"
        )
        paid = Counter(
            f"0x{receipt.payment.nonce.hex()}"
            for _, receipt in books.parsed()
            if receipt.payment.charged and receipt.payment.scheme == EXACT
        )
        rows = {row["nonce"]: row for row in books.authorizations}
        on_chain = self._used()
        for name, signed in self._signed().items():
            used = on_chain.get((signed.payer, name), "")
            # `paid`: it moved for nothing, and its payer is served for it when it comes again.
            if used and rows[name]["state"] not in ("settled", "paid"):
                yield f"7: {name} moved on chain and is {rows[name]['state']} after a restart"
            if signed.channel or not used:
                if paid[name]:
                    yield f"7: {name} did not move and has a receipt"
                continue
            if paid[name] + (used in told) != 1:
                yield f"7: {name} moved in {used}: {paid[name]} receipts, told: {used in told}"

    def _chain(self, books: Books) -> Iterator[str]:
        settings, chain = self.world.settings, self.world.workspace.chain
        contracts = settings.registry.contracts
        contract = ChannelsContract(chain, contracts.payment_channels)
        token = TokenContract(chain, str(contracts.dev_usd))
        charged = _charged(books)
        refunded, spent = Counter[str](), Counter[str]()
        for event in chain.events("PaymentChannels", contract.address, "Refunded"):
            refunded[f"0x{bytes(event.values['channelId']).hex()}"] += int(event.values["amount"])
        moved: Counter[str] = Counter()
        on_chain = self._used()
        for name, signed in self._signed().items():
            if (signed.payer, name) in on_chain:
                spent[signed.payer] += signed.amount
                moved[signed.channel] += signed.amount
        for customer in self.customers:
            back = 0
            for name in customer.ceilings:
                state = contract.state(name, now=0)
                back += refunded[name]
                if state.total_claimed > charged[name]:
                    yield f"8: {name}: {state.total_claimed} claimed, {charged[name]} charged"
                if state.balance != moved[name] - refunded[name]:
                    yield f"8: {name}: holds {state.balance} of {moved[name]} - {refunded[name]}"
            purse = token.balance_of(customer.signer.address)
            wanted = _FUNDS - spent[customer.signer.address] + back
            if purse != wanted:
                yield f"8: {customer.name} has {purse} and should have {wanted}"

    def unclaimed(self, books: Books) -> list[str]:
        """Say which channels were not claimed to the last unit; only after a settlement."""
        contracts = self.world.settings.registry.contracts
        contract = ChannelsContract(self.world.workspace.chain, contracts.payment_channels)
        claimed = {name: contract.state(name, now=0).total_claimed for name in _charged(books)}
        return [
            f"8: {name}: {claimed[name]} claimed of {amount} charged"
            for name, amount in _charged(books).items()
            if claimed[name] != amount
        ]

    def _signed(self) -> dict[str, Any]:
        return {n: a for customer in self.customers for n, a in customer.authorized.items()}

    def _used(self) -> dict[tuple[str, str], str]:
        """Return the transactions that used authorisations, by payer and nonce."""
        contracts = self.world.settings.registry.contracts
        found = self.world.workspace.chain.events(
            "DevUSD",
            str(contracts.dev_usd),
            "AuthorizationUsed",
            from_block=contracts.from_block,
        )
        return {
            (str(e.values["authorizer"]), f"0x{bytes(e.values['nonce']).hex()}"): (
                f"0x{e.tx_hash.hex()}"
            )
            for e in found
        }


def _charged(books: Books) -> Counter[str]:
    """Return what each channel's receipts add up to."""
    total: Counter[str] = Counter()
    for _, receipt in books.parsed():
        if receipt.payment.scheme != EXACT:
            total[f"0x{receipt.payment.channel.hex()}"] += receipt.payment.charged
    return total
