"""The log in public: cosigned by a witness of its own, read from files, audited from both."""

from __future__ import annotations

import functools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inference.audit.checkpoint import checkpoint_domain, parse, verify
from inference.audit.note import NoteKey, VerifierKey
from inference.audit.note_key import note_key
from inference.audit.reader import KeyedLogIdentity, LogReader
from registry.devnet_file import ROLES
from registry.signing.ed25519 import Ed25519Key
from registry.signing.signer import ANVIL_CHAIN_ID, Signer
from tests.e2e.market import Market, opened
from tests.e2e.test_command_line import COMMAND, environment, inside
from tests.peers.test_notes import verified

ORIGIN = "weightproof.local/devnet"
STRANGER = NoteKey("witness.example/other", Ed25519Key(b"\x09" * 32)).cosigner.text


@dataclass(frozen=True)
class WitnessProcess:
    """`weightproof log witness` in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    key: str

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def witness(folder: Path, vkey: str) -> Iterator[WitnessProcess]:
    command = [*COMMAND, "log", "witness", "witness.example/w1", "--log", vkey]
    command += ["--folder", str(folder), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            yield WitnessProcess(process, ready["url"], ready["key"])
        finally:
            process.kill()


@contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """A static file server that knows nothing of logs."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Market, WitnessProcess]]:
    folder = tmp_path_factory.mktemp("world")
    # Which key a devnet's node has is known beforehand, and so is that of its notes.
    vkey = note_key(Signer.anvil(ROLES["node"], chain_id=ANVIL_CHAIN_ID), ORIGIN).verifier.text
    with witness(folder / "witness", vkey) as one:
        settings = f'witnesses = [{{url = "{one.url}", key = "{one.key}"}}]\ncosign_every_s = 1'
        with opened(folder, settings) as market:
            yield market, one


def cosigned(market: Market, least: int = 1) -> str:
    """The note that the node shows once a witness has cosigned `least` entries."""
    with market.http() as client:
        for _ in range(300):
            answer = client.get("/log/checkpoint")
            if answer.status_code == 200:
                head, lines = parse(answer.text)
                if len(lines) == 3 and head.size >= least:
                    return answer.text
            time.sleep(0.1)
    raise AssertionError(answer.text)


def test_the_node_states_the_key_that_public_tools_read_its_log_with(
    world: tuple[Market, WitnessProcess],
) -> None:
    market, one = world
    note = cosigned(market)
    with market.http() as client:
        identity = LogReader(client).identity()
    assert isinstance(identity, KeyedLogIdentity)
    domain = checkpoint_domain(ANVIL_CHAIN_ID, identity.anchor)
    key = identity.note_key(market.node.address, domain)
    signed = verify(note, market.node.address, domain, origin=ORIGIN)
    assert signed.bears(key) == 0
    assert time.time() - signed.bears(VerifierKey.parse(one.key)) < 60
    for vkey in (key.text, one.key):
        assert verified(vkey, note).stdout == signed.checkpoint.text()


def test_an_auditor_may_ask_for_a_witness(world: tuple[Market, WitnessProcess]) -> None:
    market, one = world
    cosigned(market)
    audit = ("audit", "--node", market.node.url, "--config", market.config, "--json")
    first = inside(*audit, "--witness", one.key).json["checks"][0]
    assert "1 of 1 witnesses cosigned" in first["detail"]
    found = inside(*audit, "--witness", one.key, "--witness", STRANGER)
    assert found.code == 21
    first = json.loads(found.out)["checks"][0]
    assert "1 witnesses cosigned the head, 2 were wanted" in first["detail"]
    assert STRANGER in first["evidence"]["witnesses"]
    inside(*audit, "--witness", "rubbish").refuses(2, "--witness")


def test_an_exported_log_is_audited_from_a_folder_and_a_static_server(
    world: tuple[Market, WitnessProcess], tmp_path: Path
) -> None:
    market, one = world
    cosigned(market)
    folder = tmp_path / "public"
    here = ("--config", market.config, "--json")
    done = inside("log", "export", folder, *here).json
    assert done["size"] == parse((folder / "checkpoint").read_text())[0].size
    assert inside("log", "export", folder, *here).json["before"] == done["size"]
    audit = ("audit", "--node", market.node.url, "--witness", one.key, *here, "--tiles")
    with file_server(folder) as url:
        for where in (folder, url):
            report = inside(*audit, where).json
            assert (report["ok"], report["size"]) == (True, done["size"])
    (bundle,) = (folder / "tile/entries").rglob("000.p/*")
    bundle.write_bytes(bundle.read_bytes().replace(b"weightproof", b"weightprooF", 1))
    found = inside(*audit, folder)
    assert found.code == 23
    failed = [c["number"] for c in json.loads(found.out)["checks"] if c["ran"] and not c["ok"]]
    assert failed[0] == 3


def test_a_dead_witness_does_not_stop_the_node(
    world: tuple[Market, WitnessProcess], tmp_path: Path
) -> None:
    market, one = world
    size = parse(cosigned(market))[0].size
    one.kill()
    # Anchoring writes an entry, so that there is a new head to show.
    inside("checkpoint", "--config", market.config, "--json")
    with market.http() as client:
        for _ in range(300):
            head, lines = parse(client.get("/log/checkpoint").text)
            if head.size > size:
                break
            time.sleep(0.1)
        assert head.size > size
        assert len(lines) == 2
        assert client.get("/healthz").json()["witness_error"].startswith("witness.example/w1")
