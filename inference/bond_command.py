"""`weightproof bond`: what a node's owner stakes on the node's honesty, and how it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from inference.audit.node_refusals import BondRefusedError, refusal
from inference.audit.node_registry import Bond, BondRules, NodeRegistry
from inference.config import NodeConfig
from inference.moment import moment, span
from inference.office import Office
from registry.chain.block import TxReceipt
from registry.config import checked_address
from registry.errors import ConfigError, TransactionFailedError
from registry.signing.signer import Signer
from registry.terminal import Terminal
from registry.workspace import Workspace

_MAX_URL = 2048


@dataclass(frozen=True)
class Desk:
    """The registry of the settings, and the settings' keys."""

    config: NodeConfig
    workspace: Workspace
    registry: NodeRegistry

    @classmethod
    def open(cls, config: NodeConfig) -> Desk:
        """Connect. Raises `ConfigError` where nodes put up no bonds."""
        address = config.registry.contracts.node_registry
        if address is None:
            raise ConfigError(
                "this chain's contracts have no NodeRegistry: nodes put up no bonds",
                hint="set contracts.node_registry",
            )
        workspace = Workspace.open(config.registry)
        registry, ours = NodeRegistry(workspace.chain, address), config.registry.contracts
        if (anchors := registry.rules().anchors) != ours.audit_anchor:
            raise ConfigError(
                f"bonds at {address} stand for logs anchored at {anchors}, not at "
                f"{ours.audit_anchor}",
                hint="contracts.node_registry and contracts.audit_anchor belong together",
            )
        return cls(config, workspace, registry)

    def node(self, address: str) -> str:
        """Return the node's key: as given, or that of the settings."""
        if address:
            return checked_address(address, "--address")
        return self.workspace.signer("node").address

    def signer(self, role: str, *usual: str) -> Signer:
        """Open the key of a role; without one, of the first of `usual` that the settings name."""
        keys = self.config.registry.keys.references
        named = role or next((name for name in usual if name in keys), usual[-1])
        return self.workspace.signer(named)

    def owner(self, role: str) -> Signer:
        """Open the key that owns bonds: role `owner`, else the node's own."""
        return self.signer(role, "owner", "node")

    def funded(self, signer: Signer, rules: BondRules, amount: int) -> None:
        """Raise `BondRefusedError` unless the signer holds so much of the bonds' token."""
        held = self.registry.balance(rules.token, signer.address)
        if held < amount:
            raise BondRefusedError(
                f"{signer.address} holds {held} of the bonds' token {rules.token}, "
                f"{amount} is needed",
                error="ERC20InsufficientBalance",
                hint="send it the token first; amounts are atomic units",
            )


@contextmanager
def in_words() -> Iterator[None]:
    """Say what the contract's refusals mean."""
    try:
        yield
    except TransactionFailedError as error:
        raise refusal(error) from error


def deposit(config: NodeConfig, terminal: Terminal, amount: int, *, url: str, key: str) -> None:
    """Put the node up with a bond, or add to the bond that stands."""
    with in_words():
        desk = Desk.open(config)
        node, owner, rules = desk.workspace.signer("node"), desk.owner(key), desk.registry.rules()
        before = desk.registry.bond(node.address)
        if before is None:
            url = checked_url(url or config.public_url)
            desk.funded(owner, rules, amount)
            receipt = desk.registry.register(owner, node, url, amount, token=rules.token)
        elif not before.amount:
            raise BondRefusedError(
                f"{node.address} {_end(before)}; a key is put up once",
                error="AlreadyRegistered",
                hint="make a new key (weightproof key) and begin a new log with it",
            )
        elif url:
            raise ConfigError(
                f"{node.address} is put up already",
                hint="weightproof bond set-url changes its address; leave --url out to add",
            )
        else:
            desk.funded(owner, rules, amount)
            receipt = desk.registry.raise_bond(owner, node.address, amount, token=rules.token)
        _show(desk, rules, node.address, terminal, receipt)


def status(config: NodeConfig, terminal: Terminal, *, address: str) -> None:
    """Show what stands for a node."""
    desk = Desk.open(config)
    _show(desk, desk.registry.rules(), desk.node(address), terminal)


def set_url(config: NodeConfig, terminal: Terminal, url: str, *, key: str) -> None:
    """Say on chain where the node answers now."""
    with in_words():
        desk = Desk.open(config)
        node = desk.workspace.signer("node").address
        receipt = desk.registry.move(desk.owner(key), node, checked_url(url))
        _show(desk, desk.registry.rules(), node, terminal, receipt)


def withdraw(config: NodeConfig, terminal: Terminal, *, key: str, yes: bool) -> None:
    """Ask for the bond back; once the delay is over, take it."""
    with in_words():
        desk = Desk.open(config)
        node, owner, rules = (
            desk.workspace.signer("node").address,
            desk.owner(key),
            desk.registry.rules(),
        )
        bond = desk.registry.bond(node)
        if bond is not None and bond.amount and not bond.leaves_at:
            _confirm(rules, terminal, yes=yes)
            receipt = desk.registry.announce_leaving(owner, node)
        else:
            receipt = desk.registry.withdraw(owner, node)
        _show(desk, rules, node, terminal, receipt)


def answer(config: NodeConfig, terminal: Terminal) -> None:
    """Answer what waits, as a running node does by itself."""
    with in_words():
        office = Office.open(config)
        try:
            if office.answering is None:
                raise ConfigError("this chain's contracts have no NodeRegistry")
            terminal.result({"answered": office.answering.answer()})
        finally:
            office.close()


def checked_url(url: str) -> str:
    """Return an address that clients can use. Raises `ConfigError`."""
    known = url.startswith(("http://", "https://")) and len(url) <= _MAX_URL
    if not known or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(
            f"{url!r:.80} is not the address of a node", hint="it begins with http:// or https://"
        )
    return url


def state_of(bond: Bond | None, now: int) -> tuple[str, str]:
    """Return what a bond is worth to who reads it at unix second `now`: a word and a sentence."""
    if bond is None:
        return "none", "this key was never put up: it has nothing to lose"
    if not bond.amount:
        return ("slashed" if bond.slashed_at else "left"), f"this key {_end(bond)}"
    if not bond.leaves_at:
        return "stands", "it is lost when the node is shown to lie"
    if now < bond.leaves_at:
        left = span(bond.leaves_at - now)
        return "leaving", (
            f"it can be lost until {moment(bond.leaves_at)}, for {left} more; then its owner may "
            "take it"
        )
    return "leaving", "its owner may take it at any moment: count on nothing"


def _end(bond: Bond) -> str:
    if bond.slashed_at:
        return f"lost its bond at {moment(bond.slashed_at)}: it was shown to lie, or silent"
    return "left with its bond"


def _confirm(rules: BondRules, terminal: Terminal, *, yes: bool) -> None:
    delay = span(rules.leaving_delay_s)
    if yes:
        return
    if terminal.as_json or not terminal.out.is_terminal:
        raise ConfigError(
            f"leaving cannot be undone: the bond comes back after {delay}, and this key is never "
            "put up again",
            hint="give --yes to leave",
        )
    text = f"Leave? The bond comes back after {delay}, and this key is never put up again."
    if not typer.confirm(text, default=False, err=True):
        raise ConfigError("nothing was changed")


def _show(
    desk: Desk, rules: BondRules, node: str, terminal: Terminal, receipt: TxReceipt | None = None
) -> None:
    bond = desk.registry.bond(node)
    now = desk.workspace.chain.head().timestamp
    state, sentence = state_of(bond, now)
    found: dict[str, object] = {
        "node": node,
        "state": state,
        "bond": str(bond.amount if bond else 0),
        "token": rules.token,
        "owner": bond.owner if bond else "",
        "url": bond.url if bond else "",
        "leaves_at": bond.leaves_at if bond else 0,
        "challenges": bond.challenges if bond else 0,
        "reporter_gets": str(rules.reward(bond.amount) if bond else 0),
        "unbonding": f"{span(rules.leaving_delay_s)} after the owner asks",
        "says": sentence,
    }
    if receipt is not None:
        found |= {"transaction": receipt.text, "gas_used": receipt.gas_used}
    terminal.result(found)
