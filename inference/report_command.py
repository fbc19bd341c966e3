"""`weightproof report`: evidence against a node is checked offline, and handed to the contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inference.audit.evidence import Evidence, Silence
from inference.audit.node_refusals import BondRefusedError
from inference.audit.node_registry import BondRules, Challenge, challenge_id
from inference.bond_command import Desk, in_words
from inference.config import NodeConfig
from inference.evidence_file import make_evidence, read_evidence, write_evidence
from inference.moment import moment, span
from registry.chain.block import TxReceipt
from registry.config import checked_address
from registry.errors import ConfigError
from registry.signing.signer import Signer
from registry.terminal import Terminal


def check(path: Path, terminal: Terminal) -> None:
    """Check evidence without asking anybody, and say what it shows."""
    evidence = read_evidence(path)
    evidence.check()
    terminal.result(_facts(evidence) | {"says": _sentence(evidence)})


def make(
    config: NodeConfig, paths: Sequence[Path], save: Path, terminal: Terminal, *, address: str
) -> None:
    """Write what two notes or two receipts show; the settings say which chain and contracts."""
    contracts = config.registry.contracts
    evidence = make_evidence(
        paths,
        chain=contracts.chain_id,
        anchor=contracts.audit_anchor,
        node=checked_address(address, "--address"),
    )
    write_evidence(save, evidence)
    terminal.result(_facts(evidence) | {"file": str(save), "says": _sentence(evidence)})


def submit(config: NodeConfig, path: Path, terminal: Terminal, *, key: str, simulate: bool) -> None:
    """Hand evidence to the NodeRegistry as the key of a role, simulated first."""
    evidence = read_evidence(path)
    evidence.check()
    with in_words():
        desk = Desk.open(config)
        rules = desk.registry.rules()
        _check_place(evidence, desk, rules)
        signer = desk.signer(key, "payer")
        if isinstance(evidence, Silence):
            _ask(evidence, desk, rules, signer, terminal, simulate=simulate)
        else:
            _report(evidence, desk, rules, signer, terminal, simulate=simulate)


def _report(
    evidence: Evidence,
    desk: Desk,
    rules: BondRules,
    signer: Signer,
    terminal: Terminal,
    *,
    simulate: bool,
) -> None:
    reward, burned = _at_stake(evidence, desk, rules)
    gas = desk.registry.check_report(signer, evidence)
    terminal.say(f"the contract agrees: {reward} units to you, {burned} burned, {gas} gas at most")
    if simulate:
        terminal.result(_facts(evidence) | {"reporter_gets": str(reward), "gas": gas})
        return
    receipt = desk.registry.report(signer, evidence)
    terminal.result(_facts(evidence) | _slashed(desk, receipt))


def _ask(
    evidence: Silence,
    desk: Desk,
    rules: BondRules,
    signer: Signer,
    terminal: Terminal,
    *,
    simulate: bool,
) -> None:
    """Put the question, or end it when it stayed without an answer."""
    old, new = evidence.earlier, evidence.later
    id = challenge_id(evidence.node, old.size, old.root, new.size, new.root)
    facts = _facts(evidence) | {"challenge": f"0x{id.hex()}"}
    asked = desk.registry.challenge(id)
    if asked is None:
        reward, _ = _at_stake(evidence, desk, rules)
        terminal.say(
            f"the question costs {rules.stake} units, which come back with {reward} more if the "
            f"node does not answer within {span(rules.answer_window_s)}"
        )
        if simulate:
            terminal.result(facts | {"stake": str(rules.stake), "reporter_gets": str(reward)})
            return
        desk.funded(signer, rules, rules.stake)
        desk.registry.allow(signer, rules.token, rules.stake)
        receipt = desk.registry.report(signer, evidence)
        until = desk.workspace.chain.block_at(receipt.block).timestamp + rules.answer_window_s
        says = f"asked; submit this file again after {moment(until)} if no answer came"
        terminal.result(
            facts
            | {"stake": str(rules.stake), "answer_until": until, "says": says}
            | {"transaction": receipt.text, "gas_used": receipt.gas_used}
        )
        return
    _check_over(asked, desk)
    if simulate:
        terminal.result(facts | {"challenger": asked.challenger, "says": "its time is over"})
        return
    receipt = desk.registry.end_silence(signer, id)
    terminal.result(facts | {"challenger": asked.challenger} | _slashed(desk, receipt))


def _check_over(asked: Challenge, desk: Desk) -> None:
    """Raise `BondRefusedError` unless a challenge can be ended."""
    name = f"challenge 0x{asked.id.hex()}"
    if not asked.waits:
        raise BondRefusedError(
            f"{name} is over: the node answered it, or its silence was ended",
            error="NoChallenge",
            hint="weightproof bond status --address tells which",
        )
    now, bond = desk.workspace.chain.head().timestamp, desk.registry.bond(asked.node)
    is_slashed = bond is not None and bond.slashed_at
    if now <= asked.deadline and not is_slashed:
        raise BondRefusedError(
            f"{name} can be answered until {moment(asked.deadline)}",
            error="StillAnswerable",
            hint=f"submit the file again in {span(asked.deadline - now + 1)}",
        )


def _at_stake(evidence: Evidence, desk: Desk, rules: BondRules) -> tuple[int, int]:
    """Return what the reporter would get and what would be burned, in atomic units."""
    bond = desk.registry.bond(evidence.node)
    if bond is None or not bond.amount:
        why = "was never put up" if bond is None else "has no bond any more"
        raise BondRefusedError(
            f"{evidence.node} {why}: there is nothing to lose; what the evidence shows is true "
            "all the same",
            error="UnknownNode",
            hint="show the file to whoever may pay this node",
        )
    reward = rules.reward(bond.amount)
    return reward, bond.amount - reward


def _check_place(evidence: Evidence, desk: Desk, rules: BondRules) -> None:
    chain = desk.workspace.chain.chain_id
    if evidence.chain != chain:
        raise ConfigError(
            f"the evidence is of chain {evidence.chain}, the settings are of {chain}",
            hint="use the settings of that chain",
        )
    if evidence.anchor != rules.anchors:
        raise ConfigError(
            f"the evidence is of logs anchored at {evidence.anchor}; bonds here stand for those "
            f"at {rules.anchors}",
            hint="is contracts.node_registry that of the node's contracts?",
        )


def _slashed(desk: Desk, receipt: TxReceipt) -> dict[str, object]:
    found = desk.registry.slashed_in(receipt)
    facts: dict[str, object] = {"transaction": receipt.text, "gas_used": receipt.gas_used}
    if found is None:
        return facts | {"says": "the stake is back; the bond was lost before"}
    says = f"the node lost its bond; {found.reporter} got a share of it"
    return facts | {"reward": str(found.share), "burned": str(found.burned), "says": says}


def _facts(evidence: Evidence) -> dict[str, object]:
    return {
        "lie": evidence.lie,
        "node": evidence.node,
        "chain": evidence.chain,
        "anchor": evidence.anchor,
    }


def _sentence(evidence: Evidence) -> str:
    if evidence.PROVES:
        return f"proven by its own signatures: the node {evidence.claim}"
    return f"a question it can be made to answer on chain: the node {evidence.claim}"
