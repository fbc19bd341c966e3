"""A node and its witnesses: their lines are checked, and none of them can hold it up."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import Connection

from inference.api.cosign import create_witness_app
from inference.audit.bodies import IncidentBody, entry_of
from inference.audit.checkpoint import SignedCheckpoint, checkpoint_domain, parse, sign, verify
from inference.audit.head_witness import HeadWitness
from inference.audit.log import AuditLog
from inference.audit.note import NoteKey
from inference.audit.note_key import note_key
from inference.audit.quorum import Quorum
from inference.cosigning import Cosigning
from inference.database import Database
from inference.door_config import DoorConfig
from inference.errors import AuditError, UnavailableError
from inference.seen_heads import SeenHeads
from inference.server import listen, uvicorn_server
from inference.witness_config import CosigningConfig, WitnessConfig, witness_key
from registry.errors import ConfigError
from registry.signing.ed25519 import Ed25519Key
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE

LOG = AuditLog("example.org/log")
DOMAIN = checkpoint_domain(CHAIN_ID, ANCHOR)
ONE = NoteKey("witness.example/w1", Ed25519Key(b"\x05" * 32))
TWO = NoteKey("witness.example/w2", Ed25519Key(b"\x06" * 32))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address) as opened:
        yield opened


def fill(database: Database, size: int) -> None:
    def many(tx: Connection) -> None:
        for seq in range(LOG.size(tx), size):
            LOG.append(tx, entry_of(seq, IncidentBody("test", "", f"entry {seq}", 0)))

    database.write_now(many)


def cosigning(database: Database, *witnesses: WitnessConfig) -> Cosigning:
    def newest() -> SignedCheckpoint:
        def keep(tx: Connection) -> SignedCheckpoint:
            signed = sign(LOG.checkpoint(tx), NODE, DOMAIN)
            LOG.save_checkpoint(tx, signed)
            return signed

        return database.write_now(keep)

    return Cosigning(database, LOG, newest, CosigningConfig(tuple(witnesses)))


@contextmanager
def served(key: NoteKey, folder: Path) -> Iterator[WitnessConfig]:
    """A real witness on a real port."""
    witness = HeadWitness(key, [note_key(NODE, LOG.origin).verifier], SeenHeads(folder))
    listener = listen("127.0.0.1", 0)
    listener.listen()
    server = uvicorn_server(create_witness_app(witness), DoorConfig())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield WitnessConfig(f"http://127.0.0.1:{listener.getsockname()[1]}", key.cosigner)
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def answering(
    key: NoteKey, answer: Callable[[bytes], tuple[int, bytes]]
) -> Iterator[WitnessConfig]:
    """Somebody who answers what he likes under a witness's name."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, data = answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield WitnessConfig(f"http://127.0.0.1:{server.server_port}", key.cosigner)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def checkpoint(note: str) -> SignedCheckpoint:
    return verify(note, NODE.address, DOMAIN, origin=LOG.origin)


def test_before_the_first_round_no_head_is_shown(database: Database) -> None:
    fill(database, 3)
    with pytest.raises(UnavailableError, match="no head was shown"):
        cosigning(database, WitnessConfig("http://127.0.0.1:1", ONE.cosigner)).head()
    assert parse(cosigning(database).head())[0].size == 3


@pytest.mark.parametrize(
    "answer",
    [
        (200, b""),
        (200, b"rubbish"),
        (200, b"\xff\xfe"),
        (200, ("x" * 5000).encode()),
        (200, (TWO.cosignature("another text\n", 1) + "\n").encode()),
        (200, (ONE.cosignature("another text\n", 1) + "\n").encode()),
        (409, b"999\n"),
        (409, b"rubbish"),
        (409, b"1\n"),
        (500, b""),
        (302, b""),
    ],
    ids=repr,
)
def test_a_witness_that_answers_wrongly_costs_its_line_only(
    database: Database, tmp_path: Path, answer: tuple[int, bytes]
) -> None:
    fill(database, 5)
    with answering(ONE, lambda _: answer) as liar, served(TWO, tmp_path) as honest:
        asking = cosigning(database, liar, honest)
        assert asyncio.run(asking.go()) == 1
        assert ONE.name in asking.error
        assert TWO.name not in asking.error
        signed = checkpoint(asking.head())
        assert Quorum([TWO.cosigner], 1).check(signed) == "; 1 of 1 witnesses cosigned"
        with pytest.raises(AuditError, match="0 witnesses cosigned the head, 1 were wanted"):
            Quorum([ONE.cosigner], 1).check(signed)
        with pytest.raises(AuditError, match="1 witnesses cosigned the head, 2 were wanted"):
            Quorum([ONE.cosigner, TWO.cosigner], 2).check(signed)


def test_a_dead_witness_and_a_silent_one_do_not_stop_the_round(
    database: Database, tmp_path: Path
) -> None:
    fill(database, 5)
    with socket.create_server(("127.0.0.1", 0)) as silent, served(TWO, tmp_path) as honest:
        dead = WitnessConfig("http://127.0.0.1:1", ONE.cosigner)
        key = NoteKey("witness.example/w3", Ed25519Key(b"\x07" * 32)).cosigner
        mute = WitnessConfig(f"http://127.0.0.1:{silent.getsockname()[1]}", key)
        asking = cosigning(database, dead, mute, honest)
        asking.timeout_s = 2.0
        assert asyncio.run(asking.go()) == 1
        assert set(asking.error.split("; ")) == {
            f"{ONE.name}: ConnectError",
            "witness.example/w3: TimeoutError",
        }
        assert checkpoint(asking.head()).bears(TWO.cosigner) > 0


def test_a_forked_log_gets_no_second_cosignature(database: Database, tmp_path: Path) -> None:
    with served(ONE, tmp_path / "heads") as witness:
        fill(database, 5)
        assert asyncio.run(cosigning(database, witness).go()) == 1
        url = f"sqlite:///{tmp_path}/fork.db"
        with Database(url, chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address) as fork:
            other = IncidentBody("other", "", "", 0)
            for seq in range(5):
                fork.write_now(lambda tx, seq=seq: LOG.append(tx, entry_of(seq, other)))
            asking = cosigning(fork, witness)
            assert asyncio.run(asking.go()) == 0
            assert "409" in asking.error
            fork.write_now(lambda tx: LOG.append(tx, entry_of(5, other)))
            assert asyncio.run(asking.go()) == 0
            assert "422" in asking.error
    assert len(list((tmp_path / "heads").glob("*.fork"))) == 1


def test_each_round_adds_the_lines_of_all_witnesses_and_only_then_shows_the_head(
    database: Database, tmp_path: Path
) -> None:
    with served(ONE, tmp_path / "1") as one, served(TWO, tmp_path / "2") as two:
        asking = cosigning(database, one, two)
        for size in (3, 8, 300):
            fill(database, size)
            assert asyncio.run(asking.go()) == 2
            assert asyncio.run(asking.go()) == 2
            signed = checkpoint(asking.head())
            assert signed.checkpoint.size == size
            assert len(parse(signed.note)[1]) == 4
            assert "2 of 2" in Quorum([ONE.cosigner, TWO.cosigner], 2).check(signed)
            assert signed.bears(note_key(NODE, LOG.origin).verifier) == 0
            assert asking.error == ""
        fill(database, 301)
        assert checkpoint(asking.head()).checkpoint.size == 300
        # A node that was started again learns from the witness where it was.
        assert asyncio.run(cosigning(database, one, two).go()) == 2
        assert checkpoint(asking.head()).checkpoint.size == 301


def test_settings_name_witnesses_by_their_keys() -> None:
    assert witness_key(ONE.cosigner.text, "here") == ONE.cosigner
    for text in ("", ONE.verifier.text, ONE.cosigner.text[:-1]):
        with pytest.raises(ConfigError, match="here: "):
            witness_key(text, "here")
