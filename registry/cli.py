"""Commands of the registry: devnet, hash, register, attest, revoke, verify, show, key.

web3 takes seconds to import: what needs it is imported by the command that runs, so that help
and wrong arguments are answered at once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.errors import ConfigError, RecordUnknownError
from registry.terminal import EXIT_CODES, Terminal, examples

if TYPE_CHECKING:
    from registry.workspace import Workspace

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Settings = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default: the nearest upwards.")
]
Record = Annotated[str, typer.Argument(help="Record id (0x…) or PUBLISHER/NAME.")]
KeyOption = Annotated[str, typer.Option("--key", help="Role whose key signs (keys.ROLE).")]
_DAY_S = 24 * 3600
_TEN_YEARS_DAYS = 3650


@contextmanager
def session(as_json: bool, config: Path | None = None) -> Iterator[tuple[Terminal, Workspace]]:
    """Open the settings for one command; errors become one sentence and an exit code."""
    from registry.config import load
    from registry.workspace import Workspace

    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        yield terminal, Workspace.open(load(config))


@app.command(epilog=examples("weightproof devnet", "weightproof devnet --folder /tmp/net --json &"))
def devnet(
    folder: Annotated[Path, typer.Option(help="Where weightproof.toml and state go.")] = Path(),
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Start a chain of your own, deploy every contract on it and write weightproof.toml.

    The chain's state is kept in FOLDER/.weightproof/chain.json; Ctrl-C ends it, and the next start
    goes on from there.
    """
    from registry.devnet_command import run

    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        run(folder, port, terminal)


@app.command("hash", epilog=examples("weightproof hash ./model --json"))
def hash_command(
    folder: Annotated[Path, typer.Argument(help="Folder to hash.", exists=True)],
    as_json: AsJson = False,
) -> None:
    """Print the CID of a folder and of each file, as Kubo's unixfs-v1-2025 profile gives them."""
    from registry.hashing.dataset import hash_folder
    from registry.hashing.walk import walk

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


@app.command(
    epilog=examples(
        "weightproof register dataset ./reviews --license CC-BY-4.0",
        "weightproof register model ./model --name my-model --task chat --parent run:0x12…",
    )
)
def register(
    what: Annotated[str, typer.Argument(help="dataset, run or model.")],
    path: Annotated[Path, typer.Argument(help="Its folder; of a run, its manifest.", exists=True)],
    name: Annotated[
        str, typer.Option(help="Name in the manifest, and on chain: a-z 0-9 . _ -")
    ] = "",
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
        from registry.register_command import Order, describe, place

        order = Order(what, path, name, task, parent or (), license, key, relayer)
        terminal.result(describe(place(order, workspace, terminal)))


@app.command(epilog=examples("weightproof attest 0x12… --tag integrity --score 10000"))
def attest(
    model: Record,
    tag: Annotated[str, typer.Option(help="What was checked: integrity, evaluation, safety.")],
    score: Annotated[int, typer.Option(help="Basis points, 0 to 10,000.", min=0, max=10_000)],
    days: Annotated[
        int, typer.Option(help="How long it stands.", min=1, max=_TEN_YEARS_DAYS)
    ] = 365,
    evidence: Annotated[
        Path | None, typer.Option(help="Report to keep beside it.", exists=True, dir_okay=False)
    ] = None,
    key: KeyOption = "attester",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Vouch for a model with your key. An `integrity` attestation first verifies every file."""
    with session(as_json, config) as (terminal, workspace):
        from registry.workspace import unattested

        model_id = workspace.records.record(_named(workspace, model)).id
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


@app.command(epilog=examples('weightproof revoke 0x12… --reason "trained on withdrawn data"'))
def revoke(
    record: Record,
    reason: Annotated[str, typer.Option(help="Why; it is written on chain.")],
    key: KeyOption = "publisher",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a record for good: nodes stop selling it and everything that came from it."""
    with session(as_json, config) as (terminal, workspace):
        record_id = workspace.records.record(_named(workspace, record)).id
        receipt = workspace.records.revoke(workspace.signer(key), record_id, reason)
        terminal.result(
            {
                "id": "0x" + record_id.hex(),
                "reason": reason,
                "transaction": receipt.text,
                "gas_used": receipt.gas_used,
            }
        )


@app.command(
    epilog=examples(
        "weightproof verify 0x12…", "weightproof verify 0xPUBLISHER/my-model --folder ./model"
    )
)
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
                _named(workspace, model), folder=folder, progress=advance, keep_files=False
            )
        terminal.result(
            {
                "verified": True,
                "model_id": "0x" + verified.model_id.hex(),
                "name": verified.manifest.name,
                "publisher": verified.record.publisher,
                "manifest_cid": str(verified.manifest.cid),
                "block": verified.block.number,
                "attesters": sorted({a.attester for a in verified.attestations}),
                "files": len(verified.manifest.files),
                "bytes": sum(file.size for file in verified.manifest.files),
                "seconds": round(time.perf_counter() - started, 2),
            }
        )


@app.command(epilog=examples("weightproof show 0x12… --json"))
def show(record: Record, config: Settings = None, as_json: AsJson = False) -> None:
    """Show a record: what the chain says, who vouches for it, and its manifest."""
    with session(as_json, config) as (terminal, workspace):
        from registry.verify import fetch_manifest

        found = workspace.records.record(_named(workspace, record))
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


@app.command(
    epilog=examples(
        "weightproof key publisher.json",
        "WEIGHTPROOF_PASSWORD=… weightproof key node.json --json",
    )
)
def key(
    path: Annotated[Path, typer.Argument(help="Keystore file to write.")],
    as_json: AsJson = False,
) -> None:
    """Make a new key in an encrypted keystore file.

    Its password is WEIGHTPROOF_PASSWORD, or is asked for. Name the file under [keys] in
    weightproof.toml, with its role: publisher, attester, node or payer.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        from registry.config import environment_password
        from registry.signing.signer import Signer

        if path.exists():
            raise ConfigError(f"{path} exists", hint="name a new file")
        signer = Signer.random()
        signer.to_keystore(path, environment_password() or _ask_password())
        terminal.result({"address": signer.address, "keystore": str(path)})


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise ConfigError("no terminal to ask for a password on", hint="set WEIGHTPROOF_PASSWORD")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _named(workspace: Workspace, text: str) -> bytes:
    """Return the record id that an argument names; its publisher may be in lower case."""
    from registry.config import checked_address

    publisher, slash, name = text.partition("/")
    if not slash:
        return workspace.find(text)
    try:
        publisher = checked_address(publisher, "PUBLISHER")
        name.encode()
    except (ConfigError, UnicodeEncodeError) as error:
        raise RecordUnknownError(
            f"{text!r:.90} names no record",
            hint="give 0x and 64 hexadecimal digits, or PUBLISHER/NAME",
        ) from error
    return workspace.find(f"{publisher}/{name}")
