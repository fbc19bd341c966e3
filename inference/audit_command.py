"""`weightproof audit`: wires the auditor to a node's address and a chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from inference.audit.anchor import AnchorContract
from inference.audit.chain_view import AuditTarget, ChannelState, OnchainView
from inference.audit.disclosure import Consent, disclosure_domain
from inference.audit.model_standing import Terms
from inference.audit.quorum import Quorum
from inference.audit.reader import LogReader
from inference.audit.replay import Replayer
from inference.audit.report import CheckResult, Report
from inference.audit.tile_reader import Files, TileReader, folder_files, http_files
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
from registry.terminal import Terminal, plain
from registry.workspace import Workspace


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
    shown: Sequence[Shown] = (),
    tiles: str = "",
    witnesses: Sequence[str] = (),
    sample: Sample | None = None,
) -> Report:
    """Audit the node at `url`; `address` is its key, by its own word when empty.

    Calls whose request is shown are run again on weights verified here, and a `sample` of others.
    The log is read from `tiles`, a folder or an address, where that is given; each of `witnesses`
    must have cosigned.
    """
    keys = [witness_key(text, "--witness") for text in witnesses]
    sample = sample or Sample()
    address = checked_address(address, "--address") if address else ""
    workspace = Workspace.open(config.registry)
    contracts = config.registry.contracts
    policy = config.registry.policy
    with (
        node_client(url) as client,
        terminal.steps_bar("auditing", None) as advance,
        ExitStack() as opened,
    ):
        reader = (
            TileReader(opened.enter_context(_files(tiles)), client)
            if tiles
            else LogReader(client, cosigned=bool(keys))
        )
        identity = reader.identity()
        target = AuditTarget(
            node=address or identity.node,
            origin=identity.origin,
            chain_id=contracts.chain_id,
            anchor=contracts.audit_anchor,
            registry=contracts.model_registry,
        )
        calls = disclosures(shown)
        questions = Questions(
            terms=Terms(
                min_attestations=policy.min_attestations, attesters=policy.attesters or None
            ),
            given=[one.signed for one in shown],
            disclosures=calls,
            replayer=_replayer(workspace, advance, opened) if calls or sample.number else None,
            drawn=_drawn(sample, workspace, client, target.node),
            quorum=Quorum(keys, len(keys)),
        )
        return audit(
            target,
            reader,
            chain_view(workspace),
            questions,
            progress=lambda done, total: advance(f"{done} of {total} entries"),
        )


@contextmanager
def _files(where: str) -> Iterator[Files]:
    """Read tiles from a folder, or from below an address."""
    if where.startswith(("http://", "https://")):
        with node_client(where) as client:
            yield http_files(client)
    else:
        yield folder_files(Path(where))


def show(report: Report, terminal: Terminal) -> None:
    """Print one line a check, or the whole report as one object."""
    if terminal.as_json:
        terminal.result(report.to_json())
        return
    show_checks(report, terminal)
    verdict = "every check that ran is good" if report.ok else "something is false"
    more = "" if report.ok else "; --json prints the evidence"
    terminal.out.print(f"{report.size} entries of {report.node}: {verdict}{more}", markup=False)


def show_checks(report: Report, terminal: Terminal, *, indent: str = "") -> None:
    """Print one line a check."""
    show_steps(report.checks, terminal, indent=indent)


def show_steps(checks: Sequence[CheckResult], terminal: Terminal, *, indent: str = "") -> None:
    """Print one line a check, also of what is no audit."""
    for check in checks:
        mark = "✓" if check.ok else "✗" if check.ran else "·"
        terminal.out.print(
            f"{indent}{mark} {check.number} {check.name}: {plain(check.detail)}",
            markup=False,
            style="red" if check.ran and not check.ok else None,
        )


def chain_view(workspace: Workspace) -> OnchainView:
    """Return the chain as the auditor asks it."""
    contracts = workspace.config.contracts
    channels = ChannelsContract(workspace.chain, contracts.payment_channels)

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
