"""Signed notes: one spelling of each key and line, and nobody's word but the key's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference.audit.checkpoint import (
    Checkpoint,
    checkpoint_domain,
    parse,
    sign,
    verify,
    with_lines,
)
from inference.audit.note import COSIGNATURE, ED25519, NoteError, NoteKey, VerifierKey
from inference.audit.note_key import bind, bound_key, note_key
from inference.witness_key import open_key
from registry.errors import KeyRefusedError
from registry.signing.ed25519 import Ed25519Key
from registry.signing.signer import Signer
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE, STRANGER

ORIGIN = "example.org/log"
DOMAIN = checkpoint_domain(CHAIN_ID, ANCHOR)
SIGNED = sign(Checkpoint(ORIGIN, 42, bytes(range(32))), NODE, DOMAIN)
TEXT = SIGNED.checkpoint.text()
WITNESS = NoteKey("witness.example/w1", Ed25519Key(b"\x05" * 32))
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "notes.json").read_text())
VKEY = VECTORS["ours"]["vkey"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org/log",
        VKEY.replace("d1ae86a7", "d1ae86a8"),
        VKEY.replace("d1ae86a7", "D1AE86A7"),
        VKEY.replace("example.org/log", "example.org/lag"),
        VKEY.replace("+AY8d", "+BY8d"),
        VKEY + "=",
        VKEY + "AAAA",
        VKEY.replace("org/log", "org /log"),
        "x+00000000+" + "A" * 200,
        "x" * 300 + VKEY,
    ],
    ids=str,
)
def test_another_spelling_of_a_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


def test_a_note_without_the_keys_line_or_with_a_false_one_is_refused() -> None:
    key = note_key(NODE, ORIGIN).verifier
    _, lines = parse(SIGNED.note)
    with pytest.raises(NoteError, match="carries no signature"):
        key.verify(TEXT, lines[:1])
    with pytest.raises(NoteError, match="not by this key"):
        key.verify(TEXT.replace("42", "43"), lines)
    with pytest.raises(NoteError, match="carries no signature"):
        note_key(STRANGER, ORIGIN).verifier.verify(TEXT, lines)


def test_a_logs_signature_is_no_cosignature_nor_the_other_way_round() -> None:
    with pytest.raises(NoteError, match="carries no signature"):
        WITNESS.cosigner.verify(TEXT, [WITNESS.line(TEXT)])
    with pytest.raises(NoteError, match="carries no signature"):
        WITNESS.verifier.verify(TEXT, [WITNESS.cosignature(TEXT, 7)])


@pytest.mark.parametrize("change", ["node", "origin", "vkey", "domain"])
def test_a_key_that_the_node_did_not_state_for_this_log_is_refused(change: str) -> None:
    vkey, signature = bind(NODE, ORIGIN, DOMAIN)
    other = bind(STRANGER, ORIGIN, DOMAIN)[0]
    with pytest.raises(NoteError):
        bound_key(
            other if change == "vkey" else vkey,
            signature,
            STRANGER.address if change == "node" else NODE.address,
            "example.org/other" if change == "origin" else ORIGIN,
            checkpoint_domain(1, ANCHOR) if change == "domain" else DOMAIN,
        )


def test_a_witness_key_cannot_be_stated_as_the_logs() -> None:
    key = NoteKey(ORIGIN, Ed25519Key(b"\x05" * 32)).cosigner
    with pytest.raises(NoteError, match="not the key of the log"):
        bound_key(key.text, bytes(65), NODE.address, ORIGIN, DOMAIN)


def test_the_stated_key_reads_the_nodes_checkpoints() -> None:
    vkey, signature = bind(NODE, ORIGIN, DOMAIN)
    key = bound_key(vkey, signature, NODE.address, ORIGIN, DOMAIN)
    assert SIGNED.bears(key) == 0


def test_the_key_is_the_same_wherever_the_nodes_key_is_and_another_for_each_log() -> None:
    again = Signer(NODE.secret())
    assert note_key(again, ORIGIN).verifier == note_key(NODE, ORIGIN).verifier
    publics = {note_key(s, o).key.public for s in (NODE, STRANGER) for o in (ORIGIN, "other")}
    assert len(publics) == 4
    assert NODE.secret().hex() not in repr(note_key(NODE, ORIGIN))
    assert NODE.derived("purpose") not in (NODE.secret(), NODE.derived("other purpose"))


def test_a_cosignature_says_when_it_was_made() -> None:
    line = WITNESS.cosignature(TEXT, 1_700_000_000)
    assert WITNESS.cosigner.verify(TEXT, [*parse(SIGNED.note)[1], line]) == 1_700_000_000
    assert WITNESS.cosigner.kind == COSIGNATURE != WITNESS.verifier.kind == ED25519


def test_lines_are_added_once_a_key_and_never_too_many() -> None:
    first, second = WITNESS.cosignature(TEXT, 1), WITNESS.cosignature(TEXT, 2)
    note = with_lines(SIGNED.note, [first, second, first])
    assert note == f"{SIGNED.note}{first}\n"
    crowd = [NoteKey(f"w{i}", Ed25519Key(bytes([i]) * 32)).line(TEXT) for i in range(20)]
    full = with_lines(note, crowd)
    assert len(parse(full)[1]) == 16
    assert verify(full, NODE.address, DOMAIN).checkpoint == SIGNED.checkpoint


def test_our_notes_stay_as_the_reference_verified_them() -> None:
    node = Signer(bytes.fromhex(VECTORS["ours"]["node"][2:]))
    assert sign(SIGNED.checkpoint, node, DOMAIN).note == VECTORS["ours"]["note"]
    assert note_key(node, ORIGIN).verifier.text == VKEY
    assert VerifierKey.parse(VKEY).text == VKEY


def test_notes_and_key_files_of_the_reference_are_read(tmp_path: Path) -> None:
    theirs = VECTORS["theirs"]
    checkpoint, lines = parse(theirs["note"])
    assert VerifierKey.parse(theirs["vkey"]).verify(checkpoint.text(), lines) == 0
    file = tmp_path / "key"
    file.write_text(theirs["skey"] + "\n")
    file.chmod(0o600)
    key = open_key(file, "other.example/log")
    assert key.verifier.text == theirs["vkey"]
    assert [key.line(checkpoint.text())] == list(lines)


def test_a_key_file_that_others_can_read_or_of_another_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "key"
    made = open_key(file, "w.example/1")
    secret = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert open_key(file, "w.example/1").cosigner == made.cosigner
    with pytest.raises(KeyRefusedError, match="cannot open") as refusal:
        open_key(file, "w.example/2")
    assert refusal.value.__cause__ is None
    for damaged in ("", secret[:-10], secret.replace("PRIVATE", "PUBLIC"), "\xff"):
        file.write_text(damaged)
        with pytest.raises(KeyRefusedError, match="cannot open"):
            open_key(file, "w.example/1")
    file.chmod(0o640)
    with pytest.raises(KeyRefusedError, match="others can read"):
        open_key(file, "w.example/1")
    assert secret.strip() not in repr(made)
