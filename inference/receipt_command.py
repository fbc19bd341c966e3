"""`weightproof receipt`: puts what a payer holds to the seven steps, and saves proofs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from inference.audit.model_standing import Terms
from inference.audit.reader import LogReader
from inference.audit_command import chain_view
from inference.audit_report import show_steps
from inference.config import NodeConfig
from inference.held import Held
from inference.proof import Proof
from inference.prover import Prover, complete
from inference.receipt_verifier import Question, Verdict, verify
from inference.remote import node_client
from registry.chain.deploy import Deployment
from registry.config import checked_address
from registry.errors import ConfigError
from registry.terminal import Terminal
from registry.workspace import Workspace


@dataclass(frozen=True)
class Against:
    """What a file is held against: the node's key, its log's contract. Empty: by its own word."""

    address: str = ""
    anchor: str = ""


def verify_alone(held: Held, against: Against) -> Verdict:
    """Verify without any network: what the file says of the chain stays its own word."""
    anchor = checked_address(against.anchor, "--anchor") if against.anchor else ""
    if held.proof is not None:
        chain_id, anchor = held.proof.chain, anchor or held.proof.anchor
    elif held.signed is not None and anchor:
        chain_id = held.signed.receipt.model.chain
    else:
        raise ConfigError(
            "a bare receipt does not say where its log is anchored",
            hint="give --anchor 0x…, or settings instead of --offline",
        )
    return verify(_question(held, against.address, chain_id, anchor))


def verify_here(held: Held, against: Against, config: NodeConfig) -> Verdict:
    """Verify, and ask the chain of the settings. Raises `ChainError` where it does not answer."""
    contracts, policy = config.registry.contracts, config.registry.policy
    _check_place(held.proof, contracts)
    question = _question(held, against.address, contracts.chain_id, contracts.audit_anchor)
    view = chain_view(Workspace.open(config.registry))
    terms = Terms(min_attestations=policy.min_attestations, attesters=policy.attesters or None)
    return verify(replace(question, chain=view, registry=contracts.model_registry, terms=terms))


def save_proof(
    config: NodeConfig,
    url: str,
    held: Held | None,
    path: Path,
    *,
    seq: int = 0,
    address: str = "",
    public: bool = False,
) -> Verdict:
    """Prove what is `held`, or the log's entry at `seq`, and save it if all of it is true.

    `public` leaves out what says what was said. Raises what `Prover` raises.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}", hint="name a file in a folder that is there")
    with node_client(url) as client:
        log = LogReader(client)
        node = checked_address(address, "--address") if address else log.identity().node
        prover = Prover(log, chain_view(Workspace.open(config.registry)), node)
        proof = prover.prove(held.entry if held is not None else prover.entry(seq))
    if held is not None and not public:
        proof = complete(proof, held)
    kept = Held(proof.entry, proof.signed, proof, proof.request, proof.response)
    verdict = verify_here(kept, Against(node), config)
    if verdict.ok:
        path.write_bytes(proof.encode())
    return verdict


def show(verdict: Verdict, terminal: Terminal) -> None:
    """Print one line a step and the outcome, or all of it as one object."""
    if terminal.as_json:
        terminal.result(verdict.to_json())
        return
    show_steps(verdict.steps, terminal)
    idle = ", ".join(str(step.number) for step in verdict.steps if not step.ran)
    if verdict.failed:
        said = "something is false; --json prints the evidence"
    elif not verdict.ok:
        said = "nothing here binds the node"
    else:
        said = "every step that ran is good" + (f"; not run: {idle}" if idle else "")
    terminal.out.print(f"{verdict.entry.kind} {verdict.entry.seq} of {verdict.node}: {said}")


def _check_place(proof: Proof | None, contracts: Deployment) -> None:
    wanted = (contracts.chain_id, contracts.audit_anchor)
    if proof is not None and (proof.chain, proof.anchor) != wanted:
        raise ConfigError(
            f"the proof is of a log anchored by {proof.anchor} on chain {proof.chain}, "
            f"the settings name {wanted[1]} on chain {wanted[0]}",
            hint="use the settings of its chain, or --offline",
        )


def _question(held: Held, address: str, chain_id: int, anchor: str) -> Question:
    if held.signed is not None:
        node = held.signed.receipt.node
    else:
        node = held.proof.node if held.proof is not None else ""
    return Question(
        entry=held.entry,
        signed=held.signed,
        node=checked_address(address, "--address") if address else node,
        chain_id=chain_id,
        anchor=anchor,
        proof=held.proof,
        request=held.request,
        response=held.response,
    )
