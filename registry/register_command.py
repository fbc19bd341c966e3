"""`weightproof register`: a dataset, a run or a model, and the name it is found by."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from registry.errors import ConfigError, WeightproofError
from registry.hashing.walk import walk
from registry.manifest import Parent, parse_manifest
from registry.record import Kind
from registry.register import Registration, register_dataset, register_model, register_run
from registry.signing.signer import Signer
from registry.terminal import Terminal
from registry.workspace import Workspace

# What the contract takes; asked before anything is registered, so that nothing is half done.
_NAME: Final = re.compile(r"[a-z0-9._-]{1,64}", re.ASCII)
_ID_BYTES: Final = 32
# How long a relayer may take to send a name that a publisher signed.
_RELAY_WINDOW_S: Final = 3600


@dataclass(frozen=True)
class Order:
    """What was asked on the command line; without a `name` the folder's own is written down."""

    what: str
    path: Path
    name: str
    task: str
    parents: Sequence[str]
    license: str | None
    key: str
    relayer: str


def place(order: Order, workspace: Workspace, terminal: Terminal) -> Registration:
    """Register, then point the publisher's name at the record if one was given."""
    if order.name and not _NAME.fullmatch(order.name):
        raise ConfigError(
            f"{order.name!r:.80} is not a name", hint="1 to 64 of a-z, 0-9, dot, dash, underscore"
        )
    signer = workspace.signer(order.key)
    relayer = workspace.signer(order.relayer) if order.relayer else None
    common: dict[str, Any] = {
        "blocks": workspace.blocks,
        "registry": workspace.records,
        "signer": signer,
        "relayer": relayer,
    }
    is_folder = order.path.is_dir()
    total = sum(file.size for file in walk(order.path)) if is_folder else 0
    with terminal.bytes_bar(f"hashing {order.path.name}", total) as advance:
        done = _register(order, common, advance)
    if order.name:
        _set_name(workspace, signer, relayer, order.name, done.id)
    return done


def describe(done: Registration) -> dict[str, object]:
    """Return what registering gave, for people and programs."""
    return {
        "id": "0x" + done.id.hex(),
        "kind": done.manifest.kind.word,
        "manifest_cid": str(done.cid),
        "transaction": done.receipt.text if done.receipt else "",
        "gas_used": done.gas_used,
    }


def _register(order: Order, common: dict[str, Any], advance: Callable[[int], None]) -> Registration:
    name = order.name or order.path.resolve().name
    named: dict[str, Any] = {"name": name, "license": order.license}
    if order.what == "dataset":
        return register_dataset(order.path, progress=advance, **named, **common)
    if order.what == "model":
        parents = [_parent(text) for text in order.parents]
        return register_model(
            order.path, task=order.task, parents=parents, progress=advance, **named, **common
        )
    if order.what == "run" and order.path.is_file():
        manifest = parse_manifest(order.path.read_bytes())
        if manifest.kind is Kind.RUN:
            return register_run(manifest, **common)  # type: ignore[arg-type]  # as its kind says
    raise ConfigError(
        f"cannot register {order.what!r:.40} from {order.path.name}",
        hint="register dataset FOLDER, register model FOLDER, or register run MANIFEST",
    )


def _parent(text: str) -> Parent:
    kind, _, digits = text.partition(":")
    try:
        parent = Parent(Kind[kind.upper()], bytes.fromhex(digits.removeprefix("0x")))
    except (ValueError, KeyError, WeightproofError):
        parent = None
    if parent is None or len(parent.id) != _ID_BYTES:
        raise ConfigError(f"{text!r:.90} is not KIND:ID", hint="such as run:0x and 64 digits")
    return parent


def _set_name(
    workspace: Workspace, signer: Signer, relayer: Signer | None, name: str, id: bytes
) -> None:
    records, publisher = workspace.records, signer.address
    if records.resolve(publisher, name) == id:
        return
    if relayer is None:
        records.set_name(signer, name, id)
        return
    deadline = workspace.chain.head().timestamp + _RELAY_WINDOW_S
    nonce = records.nonce(publisher)
    signature = records.sign_name(signer, name, id, nonce, deadline)
    records.set_name_for(relayer, publisher, name, id, nonce, deadline, signature)
