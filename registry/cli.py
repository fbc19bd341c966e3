"""Commands of the registry: devnet, hash, register, attest, revoke, verify, show, key."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import find_file, read_file, registry_config
from registry.devnet_file import prepare_devnet
from registry.errors import ConfigError, WeightproofError
from registry.hashing.dataset import hash_folder
from registry.hashing.walk import walk
from registry.manifest import Parent, parse_manifest
from registry.record import Kind
from registry.register import Registration, register_dataset, register_model, register_run
from registry.signing.signer import Signer
from registry.terminal import EXIT_CODES, Terminal
from registry.verify import fetch_manifest
from registry.workspace import Workspace, unattested

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Settings = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default: the nearest upwards.")
]
Record = Annotated[str, typer.Argument(help="Record id (0x…) or PUBLISHER/NAME.")]
KeyOption = Annotated[str, typer.Option("--key", help="Role whose key signs (keys.ROLE).")]
_DAY_S = 24 * 3600


@contextmanager
def session(as_json: bool, config: Path | None = None) -> Iterator[tuple[Terminal, Workspace]]:
    """Open the settings for one command; errors become one sentence and an exit code."""
    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        path = find_file(config)
        root = read_file(path)
        settings = registry_config(path, root)
        yield terminal, Workspace.open(settings)


@app.command()
def devnet(
    folder: Annotated[Path, typer.Option(help="Where weightproof.toml and state go.")] = Path(),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Start a chain of your own, deploy every contract on it and write weightproof.toml.

    The chain's state is kept in FOLDER/.weightproof/chain.json; Ctrl-C ends it.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        state = folder / ".weightproof" / "chain.json"
        state.parent.mkdir(parents=True, exist_ok=True)
        with Devnet.start(state=state, port=port) as net:
            path, deployment = prepare_devnet(Chain(net.rpc_url), folder, net.rpc_url)
            terminal.result(
                {"rpc_url": net.rpc_url, "config": str(path), **deployment.to_json()},
                title="devnet is running; Ctrl-C ends it",
            )
            _wait()


@app.command("hash")
def hash_command(
    folder: Annotated[Path, typer.Argument(help="Folder to hash.", exists=True)],
    as_json: AsJson = False,
) -> None:
    """Print the CID of a folder and of each file, as Kubo's unixfs-v1-2025 profile gives them."""
    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        total = sum(file.size for file in walk(folder))
        with terminal.bytes_bar("hashing", total) as advance:
            hashed = hash_folder(folder, progress=advance)
        files = {file.path: str(file.cid) for file in hashed.files}
        if as_json:
            terminal.result({"root": str(hashed.root), "bytes": hashed.total_bytes, "files": files})
        else:
            terminal.result({**files, "(folder)": str(hashed.root)})


@app.command()
def register(
    what: Annotated[str, typer.Argument(help="dataset, run or model.")],
    path: Annotated[Path, typer.Argument(help="Its folder; of a run, its manifest.", exists=True)],
    name: Annotated[str, typer.Option(help="Name in the manifest, and on chain.")] = "",
    task: Annotated[str, typer.Option(help="Of a model: chat, classify or embed.")] = "chat",
    parent: Annotated[
        list[str] | None, typer.Option(help="Of a model: KIND:ID of what it came from.")
    ] = None,
    license: Annotated[str | None, typer.Option(help="SPDX licence identifier.")] = None,
    key: KeyOption = "publisher",
    relayer: Annotated[str, typer.Option(help="Role that pays the gas instead.")] = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Hash a dataset, run or model into the block store and record its manifest on chain.

    The same call twice gives the same record, and sends nothing the second time.
    """
    with session(as_json, config) as (terminal, workspace):
        common: dict[str, Any] = {
            "blocks": workspace.blocks,
            "registry": workspace.records,
            "signer": workspace.signer(key),
            "relayer": workspace.signer(relayer) if relayer else None,
        }
        total = sum(file.size for file in walk(path)) if path.is_dir() else 0
        with terminal.bytes_bar(f"hashing {path.name}", total) as advance:
            done = _register(what, path, name or path.name, task, parent, license, common, advance)
        if name:
            workspace.records.set_name(common["signer"], name, done.id)
        terminal.result(describe(done))


@app.command()
def attest(
    model: Record,
    tag: Annotated[str, typer.Option(help="What was checked: integrity, evaluation, safety.")],
    score: Annotated[int, typer.Option(help="Basis points, 0 to 10,000.", min=0, max=10_000)],
    days: Annotated[int, typer.Option(help="How long it stands.", min=1)] = 365,
    evidence: Annotated[
        Path | None, typer.Option(help="Report to keep beside it.", exists=True)
    ] = None,
    key: KeyOption = "attester",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Vouch for a model with your key. An `integrity` attestation first verifies every file."""
    with session(as_json, config) as (terminal, workspace):
        model_id = workspace.find(model)
        if tag == "integrity":
            with terminal.bytes_bar("verifying", None) as advance:
                unattested(workspace).verify(model_id, keep_files=False, progress=advance).close()
        digest = (
            workspace.blocks.put("raw", evidence.read_bytes()).digest if evidence else bytes(32)
        )
        expires_at = workspace.chain.head().timestamp + days * _DAY_S
        signer = workspace.signer(key)
        receipt = workspace.attestations.attest(
            signer, model_id, tag, score, expires_at, evidence=digest
        )
        terminal.result(
            {
                "model_id": "0x" + model_id.hex(),
                "attester": signer.address,
                "tag": tag,
                "score": score,
                "expires_at": expires_at,
                "transaction": receipt.text,
                "gas_used": receipt.gas_used,
            }
        )


@app.command()
def revoke(
    record: Record,
    reason: Annotated[str, typer.Option(help="Why; it is written on chain.")],
    key: KeyOption = "publisher",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a record for good: nodes stop selling it and everything that came from it."""
    with session(as_json, config) as (terminal, workspace):
        record_id = workspace.find(record)
        receipt = workspace.records.revoke(workspace.signer(key), record_id, reason)
        terminal.result(
            {
                "id": "0x" + record_id.hex(),
                "reason": reason,
                "transaction": receipt.text,
                "gas_used": receipt.gas_used,
            }
        )


@app.command()
def verify(
    model: Record,
    folder: Annotated[
        Path | None, typer.Option(help="Take the files from here instead of the block store.")
    ] = None,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check a model from its chain record down to every file, under your policy."""
    with session(as_json, config) as (terminal, workspace):
        started = time.perf_counter()
        with terminal.bytes_bar("verifying", None) as advance:
            verified = workspace.verify(
                workspace.find(model), folder=folder, progress=advance, keep_files=False
            )
        terminal.result(
            {
                "verified": "yes",
                "model_id": "0x" + verified.model_id.hex(),
                "name": verified.manifest.name,
                "publisher": verified.record.publisher,
                "manifest_cid": str(verified.manifest.cid),
                "block": verified.block.number,
                "attesters": [a.attester for a in verified.attestations],
                "files": len(verified.manifest.files),
                "bytes": sum(file.size for file in verified.manifest.files),
                "seconds": round(time.perf_counter() - started, 2),
            }
        )


@app.command()
def show(record: Record, config: Settings = None, as_json: AsJson = False) -> None:
    """Show a record: what the chain says, who vouches for it, and its manifest."""
    with session(as_json, config) as (terminal, workspace):
        found = workspace.records.record(workspace.find(record))
        manifest = fetch_manifest(workspace.blocks, found)
        attestations = workspace.attestations.attestations_of(found.id)
        terminal.result(
            {
                "id": "0x" + found.id.hex(),
                "kind": found.kind.word,
                "status": found.status.name.lower(),
                "publisher": found.publisher,
                "registered_at": found.registered_at,
                "revoked_at": found.revoked_at,
                "manifest_cid": str(manifest.cid),
                "parents": ["0x" + parent.hex() for parent in found.parents],
                "attestations": [
                    {"attester": a.attester, "tag": a.tag, "score": a.score} for a in attestations
                ],
                "manifest": json.loads(manifest.encode()),
            }
        )


@app.command()
def key(
    path: Annotated[Path, typer.Argument(help="Keystore file to write.")],
    as_json: AsJson = False,
) -> None:
    """Make a new key in an encrypted keystore file."""
    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        if path.exists():
            raise ConfigError(f"{path} exists", hint="name a new file")
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        signer = Signer.random()
        signer.to_keystore(path, password)
        terminal.result({"address": signer.address, "keystore": str(path)})


def describe(done: Registration) -> dict[str, object]:
    """Return what registering gave, for people and programs."""
    return {
        "id": "0x" + done.id.hex(),
        "kind": done.manifest.kind.word,
        "manifest_cid": str(done.cid),
        "transaction": done.receipt.text if done.receipt else "",
        "gas_used": done.gas_used,
    }


def _register(
    what: str,
    path: Path,
    name: str,
    task: str,
    parents: list[str] | None,
    license: str | None,
    common: dict[str, Any],
    advance: Callable[[int], None],
) -> Registration:
    if what == "dataset":
        return register_dataset(path, name=name, license=license, progress=advance, **common)
    if what == "model":
        found = [_parent(text) for text in parents or []]
        return register_model(
            path, name=name, task=task, parents=found, license=license, progress=advance, **common
        )
    if what == "run":
        manifest = parse_manifest(path.read_bytes())
        if manifest.kind is Kind.RUN:
            return register_run(manifest, **common)  # type: ignore[arg-type]  # as its kind says
    raise ConfigError(
        f"cannot register {what!r:.40} from {path.name}",
        hint="register dataset FOLDER, register model FOLDER, or register run MANIFEST",
    )


def _parent(text: str) -> Parent:
    kind, _, digits = text.partition(":")
    try:
        return Parent(Kind[kind.upper()], bytes.fromhex(digits.removeprefix("0x")))
    except (ValueError, KeyError, WeightproofError) as error:
        raise ConfigError(f"{text!r:.90} is not KIND:ID", hint="such as run:0x12…") from error


def _wait() -> None:
    """Wait for Ctrl-C or a polite kill; both end the devnet in order, its state written."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        signal.pause()
