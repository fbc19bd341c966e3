"""Checkpoints: a note by the node and nobody else."""

from __future__ import annotations

import base64

import pytest

from inference.audit.checkpoint import (
    Checkpoint,
    CheckpointError,
    checkpoint_domain,
    parse,
    sign,
    verify,
)
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE, STRANGER

ORIGIN = "example.org/log"
DOMAIN = checkpoint_domain(CHAIN_ID, ANCHOR)
SIGNED = sign(Checkpoint(ORIGIN, 42, bytes(range(32))), NODE, DOMAIN)


def test_a_checkpoint_by_somebody_else_is_refused() -> None:
    forged = sign(SIGNED.checkpoint, STRANGER, DOMAIN).note
    with pytest.raises(CheckpointError, match="carries no signature by"):
        verify(forged, NODE.address, DOMAIN)


def test_a_changed_size_or_root_is_refused() -> None:
    root = base64.b64encode(bytes(range(32))).decode()
    other = base64.b64encode(bytes(32)).decode()
    for note in (SIGNED.note.replace("\n42\n", "\n43\n"), SIGNED.note.replace(root, other)):
        with pytest.raises(CheckpointError, match="signed by"):
            verify(note, NODE.address, DOMAIN)


def test_a_checkpoint_for_another_chain_or_contract_is_refused() -> None:
    for domain in (checkpoint_domain(1, ANCHOR), checkpoint_domain(CHAIN_ID, NODE.address)):
        with pytest.raises(CheckpointError, match="signed by"):
            verify(SIGNED.note, NODE.address, domain)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"not of 'example\.org/other'"):
        verify(SIGNED.note, NODE.address, DOMAIN, origin="example.org/other")


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "ü", "x" * 201])
def test_an_origin_that_breaks_the_note_is_refused(origin: str) -> None:
    with pytest.raises(CheckpointError, match="not an origin"):
        Checkpoint(origin, 1, bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        ("\n42\n", "\n042\n"),
        ("\n42\n", "\n-42\n"),
        ("\n42\n", "\n42 \n"),
        ("\n42\n", "\n" + "9" * 40 + "\n"),
        ("\n42\n", "\n42\nextension\n"),
        ("\n\n", "\n"),
        ("— ", "- "),
        (f"— {ORIGIN} ", f"— {ORIGIN}"),
    ],
    ids=str,
)
def test_a_note_of_another_shape_is_refused(change: tuple[str, str]) -> None:
    before, after = change
    with pytest.raises(CheckpointError):
        verify(SIGNED.note.replace(before, after, 1), NODE.address, DOMAIN)


def test_text_that_is_no_note_is_refused() -> None:
    for text in ("", "\n\n", "{}", "a\n1\nAAAA\n\n", SIGNED.note + "\n", SIGNED.note[:-1]):
        with pytest.raises(CheckpointError):
            verify(text, NODE.address, DOMAIN)
    with pytest.raises(CheckpointError, match="more than"):
        parse("x" * 20_000)


def test_a_note_with_too_many_signatures_is_refused() -> None:
    line = SIGNED.note.split("\n\n")[1]
    with pytest.raises(CheckpointError, match="1 to 16 lines"):
        parse(SIGNED.note + line * 16)


def test_the_note_is_c2sp_text_and_verifies() -> None:
    lines = SIGNED.note.split("\n")
    assert lines[:4] == [ORIGIN, "42", base64.b64encode(bytes(range(32))).decode(), ""]
    assert lines[4].startswith(f"— {ORIGIN} ")
    assert len(base64.b64decode(lines[4].split(" ")[2])) == 4 + 65
    assert verify(SIGNED.note, NODE.address, DOMAIN, origin=ORIGIN) == SIGNED


def test_signatures_of_witnesses_stand_beside_ours() -> None:
    witness = "— witness.example " + base64.b64encode(b"\x01\x02\x03\x04" + b"\x00" * 64).decode()
    text, ours = SIGNED.note.split("\n\n")
    note = f"{text}\n\n{witness}\n{ours}"
    assert verify(note, NODE.address, DOMAIN).signature == SIGNED.signature
