"""`weightproof audit`: wires the auditor to a node's address and a chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from inference.audit.anchor import AnchorContract
from inference.audit.bundle import BundleError, open_bundle
from inference.audit.bundle_reader import BundledChain, BundledLog
from inference.audit.bundle_writer import BundleWriter, NotedChain, NotedLog
from inference.audit.chain_view import AuditTarget, ChainView, ChannelState, OnchainView
from inference.audit.disclosure import Consent, disclosure_domain
from inference.audit.log_copy import Progress
from inference.audit.model_standing import Terms
from inference.audit.quorum import Quorum
from inference.audit.reader import LogReader
from inference.audit.replay import Replayer
from inference.audit.report import BUNDLE, CheckResult, Report
from inference.audit.tile_reader import Files, TileReader, folder_files, http_files
from inference.audit_memory import AuditMemory
from inference.auditor import Questions, audit
from inference.config import NodeConfig
from inference.disclosure_client import DisclosureClient
from inference.payments.channels_contract import ChannelsContract
from inference.payments.token_contract import TokenContract
from inference.remote import node_client
from inference.replay_check import Drawn
from inference.shown import Shown, disclosures
from inference.witness_config import witness_key
from registry.config import checked_address
from registry.terminal import Terminal
from registry.workspace import Workspace

# Checks that ask the chain.
_ON_CHAIN: Final = (2, 5, 6)


@dataclass(frozen=True)
class Sample:
    """How many calls the beacon is to choose, and who asks to see them with which consents."""

    number: int = 0
    key: str = "payer"
    consents: Sequence[Consent] = ()


def run_audit(
    config: NodeConfig,
    url: str,
    terminal: Terminal,
    *,
    address: str = "",
    origin: str = "",
    shown: Sequence[Shown] = (),
    tiles: str = "",
    witnesses: Sequence[str] = (),
    sample: Sample | None = None,
    memory: AuditMemory | None = None,
    save: Path | None = None,
) -> Report:
    """Audit the node at `url`; `address` is its key, by its own word when empty, as is `origin`.

    Calls whose request is shown are run again on weights verified here, and a `sample` of others.
    The log is read from `tiles`, a folder or an address, where that is given; each of `witnesses`
    must have cosigned. With `memory` only what is new is read. All that the audit is told is saved
    as a bundle in `save`.
    """
    keys = [witness_key(text, "--witness") for text in witnesses]
    sample = sample or Sample()
    address = checked_address(address, "--address") if address else ""
    workspace = Workspace.open(config.registry)
    calls = disclosures(shown)
    with node_client(url) as client, ExitStack() as opened:
        advance = opened.enter_context(terminal.counted_bar("auditing"))
        reader = (
            TileReader(opened.enter_context(_files(tiles)), client)
            if tiles
            else LogReader(client, cosigned=bool(keys))
        )
        identity = reader.identity()
        target = target_of(config, address or identity.node, origin or identity.origin)
        replayer = None
        if calls or sample.number:
            steps = opened.enter_context(terminal.steps_bar("replaying", None))
            replayer = _replayer(workspace, steps, opened)
        questions = Questions(
            terms=terms_of(config),
            given=[one.signed for one in shown],
            disclosures=calls,
            replayer=replayer,
            drawn=_drawn(sample, workspace, client, target.node),
            quorum=Quorum(keys, len(keys)),
            memory=memory,
            told_origin=bool(origin),
        )
        return saved_audit(target, reader, chain_view(workspace), questions, advance, save)


def saved_audit(
    target: AuditTarget,
    log: LogReader,
    chain: ChainView,
    questions: Questions,
    progress: Progress,
    save: Path | None,
) -> Report:
    """Audit, and save all that the audit is told in `save`, unless that is None."""
    if save is None:
        return audit(target, log, chain, questions, progress=progress)
    # A bundle without the entries before would prove nothing.
    whole = replace(questions, memory=None)
    writer = BundleWriter(save, target, questions.terms)
    try:
        report = audit(
            target, NotedLog(log, writer), NotedChain(chain, writer), whole, progress=progress
        )
    except BaseException:
        writer.abandon()
        raise
    writer.close()
    return report


def run_bundle(
    path: Path, terminal: Terminal, *, address: str = "", shown: Sequence[Shown] = ()
) -> tuple[Report, AuditTarget]:
    """Repeat an audit from a bundle, asking neither node nor chain.

    Raises `BundleError` for a bundle that is malformed, or of another node than `address`.
    """
    bundle = open_bundle(path)
    target = bundle.head.target
    if address and checked_address(address, "--address") != target.node:
        raise BundleError(f"the bundle is of node {target.node}, not of {address}")
    attesters = bundle.head.attesters
    terms = Terms(
        min_attestations=bundle.head.min_attestations,
        attesters=None if attesters is None else frozenset(attesters),
    )
    asked = Questions(terms=terms, given=[one.signed for one in shown])
    with terminal.counted_bar("auditing") as advance:
        report = audit(target, BundledLog(bundle), BundledChain(bundle), asked, progress=advance)
    checks = tuple(_from_bundle(check) for check in report.checks)
    return replace(report, source=BUNDLE, checks=checks), target


def _from_bundle(check: CheckResult) -> CheckResult:
    """Say of each check that needs the chain that its part was taken from the bundle."""
    if check.number not in _ON_CHAIN or not check.ran:
        return check
    return replace(check, detail=f"{check.detail}; the chain's part is the bundle's word")


def terms_of(config: NodeConfig) -> Terms:
    """Return what the settings' policy demands of a model that was sold."""
    policy = config.registry.policy
    return Terms(
        min_attestations=policy.min_attestations,
        attesters=policy.attesters or None,
        max_ancestors=policy.max_ancestors,
        revoked_parents=policy.allow_revoked_parents,
    )


def target_of(config: NodeConfig, node: str, origin: str) -> AuditTarget:
    """Return the log of `node` named `origin`, on the chain of the settings."""
    contracts = config.registry.contracts
    return AuditTarget(
        node=node,
        origin=origin,
        chain_id=contracts.chain_id,
        anchor=contracts.audit_anchor,
        registry=contracts.model_registry,
    )


@contextmanager
def _files(where: str) -> Iterator[Files]:
    """Read tiles from a folder, or from below an address."""
    if where.startswith(("http://", "https://")):
        with node_client(where) as client:
            yield http_files(client)
    else:
        yield folder_files(Path(where))


def chain_view(workspace: Workspace) -> OnchainView:
    """Return the chain as the auditor asks it."""
    contracts = workspace.config.contracts
    # By the word of all endpoints, where there are several.
    channels = ChannelsContract(workspace.records.chain, contracts.payment_channels)

    def state(channel_id: bytes) -> ChannelState:
        found = channels.state("0x" + channel_id.hex(), now=int(time.time()))
        return ChannelState(found.balance, found.total_claimed)

    def used(asset: str, payer: str, nonce: bytes) -> bool:
        token = TokenContract(workspace.chain, asset)
        return token.settlement(payer, nonce, from_block=contracts.from_block) is not None

    return OnchainView(
        chain=workspace.chain,
        anchors=AnchorContract(workspace.chain, contracts.audit_anchor),
        records=workspace.records,
        book=workspace.attestations,
        channel_state=state,
        used=used,
        from_block=contracts.from_block,
    )


def _drawn(sample: Sample, workspace: Workspace, client: httpx.Client, node: str) -> Drawn:
    if not sample.number:
        return Drawn()
    contracts = workspace.config.contracts
    domain = disclosure_domain(contracts.chain_id, contracts.audit_anchor)
    asking = DisclosureClient(client, workspace.signer(sample.key), node, domain, sample.consents)
    return Drawn(sample.number, asking.ask)


def _replayer(workspace: Workspace, progress: Callable[[str], None], opened: ExitStack) -> Replayer:
    # torch takes seconds to import, and an audit without disclosed calls does not need it.
    from inference.replayer import ModelReplayer

    return opened.enter_context(closing(ModelReplayer(workspace, progress)))
