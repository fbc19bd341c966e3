"""`weightproof audit`: wires the auditor to a node's address and a chain."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from inference.audit.anchor import AnchorContract
from inference.audit.chain_view import AuditTarget, ChannelState, OnchainView
from inference.audit.model_standing import Terms
from inference.audit.reader import LogReader
from inference.audit.replay import Disclosure
from inference.audit.report import Report
from inference.auditor import Questions, audit
from inference.config import NodeConfig
from inference.payments.channels_contract import ChannelsContract
from inference.payments.token_contract import TokenContract
from inference.receipts import SignedReceipt
from inference.remote import node_client
from inference.replayer import ModelReplayer
from registry.errors import ConfigError
from registry.terminal import Terminal
from registry.workspace import Workspace


@dataclass(frozen=True)
class Shown:
    """What a payer shows the auditor: a receipt, and the request's bytes if it may be replayed."""

    signed: SignedReceipt
    request: bytes | None = None


def run_audit(
    config: NodeConfig,
    url: str,
    terminal: Terminal,
    *,
    address: str = "",
    shown: Sequence[Shown] = (),
) -> Report:
    """Audit the node at `url`; `address` is its key, by its own word when empty.

    Calls whose request is shown are run again on weights verified here.
    """
    workspace = Workspace.open(config.registry)
    contracts = config.registry.contracts
    policy = config.registry.policy
    with (
        node_client(url) as client,
        terminal.steps_bar("auditing", None) as advance,
        closing(ModelReplayer(workspace, advance)) as replayer,
    ):
        reader = LogReader(client)
        identity = reader.identity()
        target = AuditTarget(
            node=address or identity.node,
            origin=identity.origin,
            chain_id=contracts.chain_id,
            anchor=contracts.audit_anchor,
            registry=contracts.model_registry,
        )
        questions = Questions(
            terms=Terms(
                min_attestations=policy.min_attestations, attesters=policy.attesters or None
            ),
            given=[one.signed for one in shown],
            disclosures=disclosures(shown),
            replayer=replayer,
        )
        return audit(
            target,
            reader,
            chain_view(workspace),
            questions,
            progress=lambda done, total: advance(f"{done} of {total} entries"),
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


def disclosures(shown: Sequence[Shown]) -> dict[str, Disclosure]:
    """Return what can be replayed: a request without its salt proves nothing."""
    return {
        one.signed.receipt.id: Disclosure(one.request, one.signed.salts.request)
        for one in shown
        if one.request is not None and one.signed.salts is not None
    }


def read_shown(path: Path) -> Shown:
    """Read a receipt's file, and the request beside it (the same name with `.request`)."""
    request = path.with_suffix(".request")
    try:
        signed = SignedReceipt.from_json(json.loads(path.read_text()))
        return Shown(signed, request.read_bytes() if request.exists() else None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} holds no receipt: {error}") from error


def save_shown(path: Path, shown: Shown) -> None:
    """Write a receipt, and the request beside it."""
    path.write_text(json.dumps(shown.signed.bundle(), indent=2) + "\n")
    if shown.request is not None:
        path.with_suffix(".request").write_bytes(shown.request)
