"""Notes read by others: node's Ed25519 and the text of C2SP's specifications, nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference.audit.checkpoint import Checkpoint, checkpoint_domain, sign, with_lines
from inference.audit.note import NoteKey
from inference.audit.note_key import note_key
from registry.signing.ed25519 import Ed25519Key
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE

ORIGIN = "example.org/log"
SIGNED = sign(Checkpoint(ORIGIN, 42, bytes(range(32))), NODE, checkpoint_domain(CHAIN_ID, ANCHOR))
WITNESS = NoteKey("witness.example/w1", Ed25519Key(b"\x05" * 32))
VKEY = note_key(NODE, ORIGIN).verifier.text


def verified(vkey: str, note: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parent / "notes" / "verify.mjs"
    return subprocess.run(
        [Path(sys.executable).parent / "node", script, vkey],
        input=note,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("change", [("\n42\n", "\n43\n"), ("AAEC", "AAED"), (ORIGIN, "x.org/log")])
def test_a_reader_of_notes_refuses_another_text(change: tuple[str, str]) -> None:
    before, after = change
    found = verified(VKEY, SIGNED.note.replace(before, after, 1))
    assert found.returncode == 1
    assert found.stdout == ""


def test_a_reader_of_notes_refuses_another_node() -> None:
    found = verified(NoteKey(ORIGIN, Ed25519Key(b"\x06" * 32)).verifier.text, SIGNED.note)
    assert "no signature by this key" in found.stderr


def test_a_reader_of_notes_refuses_a_cosignature_of_another_second() -> None:
    later = WITNESS.cosignature(SIGNED.checkpoint.text(), 1_700_000_001)
    now = WITNESS.cosignature(SIGNED.checkpoint.text(), 1_700_000_000)
    # The time of the one over the signature of the other.
    forged = now[: now.rindex(" ") + 17] + later[later.rindex(" ") + 17 :]
    assert (
        "a false signature"
        in verified(WITNESS.cosigner.text, with_lines(SIGNED.note, [forged])).stderr
    )


def test_a_reader_of_notes_reads_our_checkpoints() -> None:
    found = verified(VKEY, SIGNED.note)
    assert (found.returncode, found.stdout) == (0, SIGNED.checkpoint.text())


def test_a_reader_of_notes_reads_our_cosignatures() -> None:
    line = WITNESS.cosignature(SIGNED.checkpoint.text(), 1_700_000_000)
    found = verified(WITNESS.cosigner.text, with_lines(SIGNED.note, [line]))
    assert (found.returncode, found.stdout) == (0, SIGNED.checkpoint.text())
