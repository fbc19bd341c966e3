"""The NodeRegistry contract: who runs a node, where it answers, and the bond it loses when it lies.

`signer` sends and pays the gas. A node is its signing key; its owner is whoever put it up. Every
method waits for the chain: call it from a thread. Amounts are atomic units of the bonds' token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from inference.audit.evidence import (
    Drop,
    Evidence,
    EvidenceError,
    Fork,
    Head,
    Inclusion,
    Rewrite,
    Silence,
    Twins,
)
from inference.receipts import SignedReceipt, receipt_values
from registry.chain.block import TxReceipt
from registry.chain.calldata import Function
from registry.chain.connection import Chain
from registry.signing.keccak import keccak
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain, Struct

_NAME: Final = "NodeRegistry"
# Our token's ABI has what ERC-20 has.
_TOKEN: Final = "DevUSD"
_CONSENT: Final = Struct("Consent", {"owner": "address", "url": "string"})
_NOBODY: Final = "0x" + "0" * 40
_WHOLE: Final = 10_000
_Head: TypeAlias = tuple[int, bytes, bytes]


@dataclass(frozen=True)
class Bond:
    """A node that was put up. Times in unix seconds of the chain; 0 is never.

    `amount` can be lost. From `leaves_at` on the owner may take it back before any report. A node
    that left or was slashed is known for ever, with nothing to lose.
    """

    node: str
    owner: str
    amount: int
    leaves_at: int
    slashed_at: int
    challenges: int
    url: str


@dataclass(frozen=True)
class BondRules:
    """What the contract fixes: times in seconds, `stake` in atomic units of `token`."""

    token: str
    anchors: str
    stake: int
    leaving_delay_s: int
    answer_window_s: int
    reporter_share: int

    def reward(self, amount: int) -> int:
        """Return what the reporter gets of a bond, as the contract divides it."""
        return amount * self.reporter_share // _WHOLE


@dataclass(frozen=True)
class Challenge:
    """A question put to a node on chain; `deadline` is when its silence can be ended."""

    id: bytes
    challenger: str
    deadline: int
    node: str

    @property
    def waits(self) -> bool:
        """Whether it can still be answered or ended."""
        return self.challenger != _NOBODY


@dataclass(frozen=True)
class Asked:
    """A challenge as its event tells it: which two sizes, not which roots."""

    id: bytes
    old: int
    new: int


@dataclass(frozen=True)
class Slashing:
    """A lie that cost a bond: what its reporter got, and what was burned."""

    node: str
    reporter: str
    share: int
    burned: int


def challenge_id(node: str, old: int, old_root: bytes, new: int, new_root: bytes) -> bytes:
    """Return the 32 bytes that the contract files a challenge under."""
    words = bytes.fromhex(node[2:]), old.to_bytes(32, "big"), old_root
    packed = b"".join(word.rjust(32, b"\0") for word in (*words, new.to_bytes(32, "big"), new_root))
    return keccak(packed)


class NodeRegistry:
    """One deployed NodeRegistry."""

    def __init__(self, chain: Chain, address: str) -> None:
        self.chain: Final = chain
        self.address: Final = address

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain that nodes consent in."""
        return Domain("Weightproof NodeRegistry", "1", self.chain.chain_id, self.address)

    def rules(self) -> BondRules:
        """Return what the contract fixes for all nodes."""
        ask, functions = self.chain.call, self._functions
        return BondRules(
            token=ask(functions.token()),
            anchors=ask(functions.anchors()),
            stake=ask(functions.stake()),
            leaving_delay_s=ask(functions.LEAVING_DELAY()),
            answer_window_s=ask(functions.ANSWER_WINDOW()),
            reporter_share=ask(functions.REPORTER_SHARE()),
        )

    def bond(self, node: str) -> Bond | None:
        """Return a node's bond, None for a key that was never put up."""
        owner, *rest = self.chain.call(self._functions.nodes(node))
        return None if owner == _NOBODY else Bond(node, owner, *rest)

    def register(
        self, owner: Signer, node: Signer, url: str, amount: int, *, token: str
    ) -> TxReceipt:
        """Put up a node with its consent; `owner` pays the bond and gets it back."""
        consent = node.sign_digest(
            _CONSENT.digest(self.domain.separator(), {"owner": owner.address, "url": url})
        )
        self.allow(owner, token, amount)
        call = self._functions.register(node.address, url, amount, consent)
        return self.chain.send(owner, call)

    def raise_bond(self, signer: Signer, node: str, amount: int, *, token: str) -> TxReceipt:
        """Add to a bond; anybody may."""
        self.allow(signer, token, amount)
        return self.chain.send(signer, self._functions["raise"](node, amount))

    def move(self, owner: Signer, node: str, url: str) -> TxReceipt:
        """Say where the node answers now."""
        return self.chain.send(owner, self._functions.move(node, url))

    def announce_leaving(self, owner: Signer, node: str) -> TxReceipt:
        """Ask for the bond back; it can be lost until it is withdrawn."""
        return self.chain.send(owner, self._functions.announceLeaving(node))

    def withdraw(self, owner: Signer, node: str) -> TxReceipt:
        """Take the bond back, once the delay is over and no challenge waits."""
        return self.chain.send(owner, self._functions.withdrawBond(node))

    def check_report(self, signer: Signer, evidence: Evidence) -> int:
        """Return the gas a report takes. Raises `TransactionFailedError` if it would be refused."""
        return self.chain.estimate(signer, self._report(evidence))

    def report(self, signer: Signer, evidence: Evidence) -> TxReceipt:
        """Show a lie, or put the question of `Silence`; the reporter's share is sent at once."""
        return self.chain.send(signer, self._report(evidence))

    def challenge(self, id: bytes) -> Challenge | None:
        """Return a challenge, None if it was never made; one that is over does not wait."""
        challenger, deadline, node = self.chain.call(self._functions.challenges(id))
        return Challenge(id, challenger, deadline, node) if deadline else None

    def asked(self, node: str, *, from_block: int) -> tuple[Asked, ...]:
        """Return the challenges ever put to a node since a block, oldest first."""
        where = {"node": node}
        events = self.chain.events(
            _NAME, self.address, "Challenged", where=where, from_block=from_block
        )
        return tuple(
            Asked(
                cast(bytes, event.values["id"]),
                cast(int, event.values["oldSize"]),
                cast(int, event.values["newSize"]),
            )
            for event in events
        )

    def answer(
        self,
        signer: Signer,
        node: str,
        old: tuple[int, bytes],
        new: tuple[int, bytes],
        proof: tuple[bytes, ...],
    ) -> TxReceipt:
        """Show that the later head (size, root) extends the earlier one; anybody may."""
        return self.chain.send(signer, self._functions.answer(node, *old, *new, list(proof)))

    def end_silence(self, signer: Signer, id: bytes) -> TxReceipt:
        """End a challenge that was not answered in time; share and stake go to its challenger."""
        return self.chain.send(signer, self._functions.endSilence(id))

    def answered_in(self, receipt: TxReceipt) -> tuple[bytes, ...]:
        """Return the challenges that one transaction answered."""
        events = self.chain.events_in(receipt, _NAME, self.address, "Answered")
        return tuple(cast(bytes, event.values["id"]) for event in events)

    def slashed_in(self, receipt: TxReceipt) -> Slashing | None:
        """Return the lie that one transaction made a node pay for."""
        for event in self.chain.events_in(receipt, _NAME, self.address, "Slashed"):
            values: dict[str, Any] = dict(event.values)
            return Slashing(values["node"], values["reporter"], values["share"], values["burned"])
        return None

    def balance(self, token: str, owner: str) -> int:
        """Return what `owner` holds of the bonds' token."""
        functions = self.chain.contract(_TOKEN, token).functions
        return int(self.chain.call(functions.balanceOf(owner)))

    def allow(self, signer: Signer, token: str, amount: int) -> None:
        """Let the contract draw `amount` from the signer, unless it may already."""
        functions = self.chain.contract(_TOKEN, token).functions
        if self.chain.call(functions.allowance(signer.address, self.address)) < amount:
            self.chain.send(signer, functions.approve(self.address, amount))

    @property
    def _functions(self) -> Any:
        return self.chain.contract(_NAME, self.address).functions

    def _report(self, evidence: Evidence) -> Function:
        functions = self._functions
        call: Function
        match evidence:
            case Fork():
                heads = _head(evidence.first), _head(evidence.second)
                call = functions.reportFork(evidence.origin, *heads)
            case Twins():
                first, second = evidence.first, evidence.second
                call = functions.reportTwins(*_receipt(first), *_receipt(second))
            case Rewrite():
                call = functions.reportRewrite(
                    evidence.origin,
                    _head(evidence.first),
                    _found(evidence.in_first),
                    _head(evidence.second),
                    _found(evidence.in_second),
                    evidence.index,
                )
            case Drop():
                call = functions.reportDrop(
                    evidence.origin,
                    _head(evidence.head),
                    _found(evidence.found),
                    *_receipt(evidence.receipt),
                    evidence.receipt.receipt.encode(),
                )
            case Silence():
                heads = _head(evidence.earlier), _head(evidence.later)
                call = functions.challenge(evidence.origin, *heads)
            case _:
                raise EvidenceError(f"the contract knows no {evidence.lie}")
        return call


def _head(head: Head) -> _Head:
    return head.size, head.root, head.signature


def _found(found: Inclusion) -> tuple[bytes, list[bytes]]:
    return found.leaf, list(found.path)


def _receipt(signed: SignedReceipt) -> tuple[tuple[object, ...], bytes]:
    return tuple(receipt_values(signed.receipt).values()), signed.signature
