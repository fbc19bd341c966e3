"""A witness of heads: it never cosigns two heads that do not extend each other."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from inference.api.cosign import create_witness_app
from inference.audit import merkle
from inference.audit.checkpoint import Checkpoint, checkpoint_domain, parse, sign
from inference.audit.head_witness import (
    HeadConflictError,
    HeadUnprovenError,
    HeadUnsignedError,
    HeadWitness,
    LogUnknownError,
)
from inference.audit.note import NoteKey
from inference.audit.note_key import note_key
from inference.audit.submission import MAX_BYTES, Submission, SubmissionError
from inference.seen_heads import HeadsDamagedError, SeenHeads
from registry.signing.ed25519 import Ed25519Key
from registry.signing.signer import Signer
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE, STRANGER

ORIGIN = "example.org/log"
DOMAIN = checkpoint_domain(CHAIN_ID, ANCHOR)
KEY = NoteKey("witness.example/w1", Ed25519Key(b"\x05" * 32))
NOW = 1_700_000_000


def leaves(size: int, fork: int | None = None) -> list[bytes]:
    """Leaf hashes; from `fork` on those of another log."""
    return [merkle.leaf_hash(f"{i} {fork is not None and i >= fork}".encode()) for i in range(size)]


def note(size: int, *, fork: int | None = None, by: Signer = NODE, origin: str = ORIGIN) -> str:
    return sign(Checkpoint(origin, size, merkle.root(leaves(size, fork))), by, DOMAIN).note


def body(old: int, new: int, *, fork: int | None = None) -> bytes:
    proof = merkle.consistency_proof(old, new, merkle.nodes_of(leaves(new, fork)))
    return Submission(old, proof, note(new, fork=fork)).encode()


def witness(folder: Path, *logs: Signer) -> HeadWitness:
    keys = [note_key(log, ORIGIN).verifier for log in logs or (NODE,)]
    return HeadWitness(KEY, keys, SeenHeads(folder), clock=lambda: NOW)


def cosigned(line: str, size: int, *, fork: int | None = None) -> bool:
    text = parse(note(size, fork=fork))[0].text()
    return KEY.cosigner.verify(text, [line]) == NOW


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b"",
        lambda b: b"\xff" + b,
        lambda b: b.replace(b"old 5", b"old 05"),
        lambda b: b.replace(b"old 5", b"old -5"),
        lambda b: b.replace(b"old 5", b"old 5 "),
        lambda b: b.replace(b"old 5", b"new 5"),
        lambda b: b.replace(b"old 5", b"old " + b"9" * 30),
        lambda b: b.replace(b"=\n", b"\n", 1),
        lambda b: b.replace(b"old 5\n", b"old 5\n" + b"AAAA\n"),
        lambda b: b.replace(b"old 5\n", b"old 5\n" + b"A" * 43 + b"=\n" * 1 + b"!\n"),
        lambda b: b.replace(b"old 5\n", b"old 5\n" + (b"A" * 43 + b"=\n") * 64),
        lambda b: b.replace(b"\n\n", b"\n", 1),
        lambda b: b[:-1],
        lambda b: b.replace(b"\n8\n", b"\n08\n"),
        lambda b: b.replace(b"old 5", b"old 9"),
    ],
)
def test_what_is_no_submission_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(SubmissionError):
        witness(tmp_path).add_checkpoint(change(body(5, 8)))
    assert not list(tmp_path.glob("*.note"))


def test_an_unknown_log_and_a_foreign_signature_are_refused(tmp_path: Path) -> None:
    watching = witness(tmp_path)
    with pytest.raises(LogUnknownError):
        watching.add_checkpoint(Submission(0, (), note(3, origin="other.org/log")).encode())
    with pytest.raises(HeadUnsignedError):
        watching.add_checkpoint(Submission(0, (), note(3, by=STRANGER)).encode())
    text, lines = note(3).split("\n\n")
    only_ethereum = f"{text}\n\n{lines.splitlines()[0]}\n"
    with pytest.raises(HeadUnsignedError):
        watching.add_checkpoint(Submission(0, (), only_ethereum).encode())
    with pytest.raises(HeadUnsignedError, match="not by this key"):
        watching.add_checkpoint(Submission(0, (), note(3).replace("\n3\n", "\n4\n")).encode())
    assert not list(tmp_path.glob("*.note"))


def test_a_proof_from_another_size_is_told_the_right_one(tmp_path: Path) -> None:
    watching = witness(tmp_path)
    with pytest.raises(HeadConflictError) as conflict:
        watching.add_checkpoint(body(5, 8))
    assert conflict.value.size == 0
    watching.add_checkpoint(body(0, 8))
    for old in (0, 5, 7):
        with pytest.raises(HeadConflictError) as conflict:
            watching.add_checkpoint(body(old, 9))
        assert conflict.value.size == 8


def test_a_head_that_does_not_extend_the_last_is_not_cosigned(tmp_path: Path) -> None:
    watching = witness(tmp_path)
    watching.add_checkpoint(body(0, 8))
    with pytest.raises(HeadUnprovenError):
        watching.add_checkpoint(body(8, 20, fork=3))
    with pytest.raises(HeadUnprovenError):
        watching.add_checkpoint(Submission(8, (), note(20)).encode())
    with pytest.raises(HeadUnprovenError):
        watching.add_checkpoint(body(8, 20).replace(b"old 8\n", b"old 8\n" + b"A" * 43 + b"=\n"))
    with pytest.raises(HeadUnprovenError):
        witness(tmp_path / "new").add_checkpoint(Submission(0, [bytes(32)], note(3)).encode())
    assert cosigned(watching.add_checkpoint(body(8, 20)), 20)


def test_a_second_root_of_one_size_is_kept_as_evidence_and_never_cosigned(tmp_path: Path) -> None:
    watching = witness(tmp_path)
    watching.add_checkpoint(body(0, 8))
    for fork in (3, 4):
        with pytest.raises(HeadConflictError, match="forked"):
            watching.add_checkpoint(Submission(8, (), note(8, fork=fork)).encode())
    (evidence,) = tmp_path.glob("*.fork")
    assert evidence.read_text() == note(8) + "\n" + note(8, fork=3)
    with pytest.raises(HeadConflictError, match="forked"):
        empty = sign(Checkpoint(ORIGIN, 0, bytes(32)), NODE, DOMAIN).note
        witness(tmp_path / "new").add_checkpoint(Submission(0, (), empty).encode())


def test_a_damaged_memory_cosigns_nothing(tmp_path: Path) -> None:
    witness(tmp_path).add_checkpoint(body(0, 8))
    (path,) = tmp_path.glob("*.note")
    for damaged in ("", "rubbish", note(8, origin="other.org/log")):
        path.write_text(damaged)
        with pytest.raises(HeadsDamagedError):
            witness(tmp_path).add_checkpoint(body(0, 3))


def test_heads_that_extend_are_cosigned_also_twice_and_after_a_restart(tmp_path: Path) -> None:
    assert cosigned(witness(tmp_path).add_checkpoint(body(0, 8)), 8)
    assert cosigned(witness(tmp_path).add_checkpoint(body(8, 8)), 8)
    assert cosigned(witness(tmp_path).add_checkpoint(body(8, 21)), 21)
    with pytest.raises(HeadConflictError):
        witness(tmp_path).add_checkpoint(body(0, 8))


def test_a_log_may_have_two_keys_and_a_witness_two_logs(tmp_path: Path) -> None:
    other = note_key(STRANGER, "other.org/log").verifier
    keys = [note_key(STRANGER, ORIGIN).verifier, note_key(NODE, ORIGIN).verifier, other]
    watching = HeadWitness(KEY, keys, SeenHeads(tmp_path), clock=lambda: NOW)
    assert cosigned(watching.add_checkpoint(body(0, 8)), 8)
    foreign = note(3, by=STRANGER, origin="other.org/log")
    line = watching.add_checkpoint(Submission(0, (), foreign).encode())
    assert KEY.cosigner.verify(parse(foreign)[0].text(), [line]) == NOW


def test_of_many_forks_submitted_at_once_one_is_cosigned(tmp_path: Path) -> None:
    won: list[int] = []
    ready = threading.Barrier(8)

    def submit(fork: int) -> None:
        ready.wait()
        try:
            witness(tmp_path).add_checkpoint(body(0, 8, fork=fork))
            won.append(fork)
        except (HeadConflictError, HeadUnprovenError):
            pass

    threads = [threading.Thread(target=submit, args=(fork,)) for fork in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def _cosign_until_killed(folder: str, told: int) -> None:
    watching, sizes = witness(Path(folder)), range(1, 10_000)
    with open(told, "w", closefd=False) as out:
        for old, new in zip((0, *sizes), sizes, strict=False):
            watching.add_checkpoint(body(old, new, fork=0))
            out.write(f"{new}\n")
            out.flush()


def test_what_a_killed_witness_cosigned_it_remembers(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    told = tmp_path / "told"
    for _ in range(3):
        folder = tmp_path / "heads"
        for old in folder.glob("*"):
            old.unlink()
        with told.open("w") as file:
            process = context.Process(
                target=_cosign_until_killed, args=(str(folder), file.fileno())
            )
            process.start()
            while told.stat().st_size < 10:
                process.join(0.01)
            process.kill()
            process.join()
        last = int(told.read_text().split("\n")[-2])
        with pytest.raises(HeadConflictError) as conflict:
            witness(folder).add_checkpoint(body(0, 4))
        # The head is on the disk before its line leaves: it may be one ahead of what was told.
        assert conflict.value.size in (last, last + 1)


def test_over_http_each_refusal_has_its_status(tmp_path: Path) -> None:
    with TestClient(create_witness_app(witness(tmp_path))) as client:

        def post(data: bytes) -> tuple[int, str, str]:
            answer = client.post("/add-checkpoint", content=data)
            return answer.status_code, answer.headers["content-type"], answer.text

        other = Submission(0, (), note(3, origin="other.org/log")).encode()
        foreign = Submission(0, (), note(3, by=STRANGER)).encode()
        assert post(b"rubbish")[0] == 400
        assert post(body(0, 8).replace(b"old 0", b"old 9"))[0] == 400
        assert post(bytes(MAX_BYTES + 1))[0] == 413
        assert post(other)[0] == 404
        assert post(foreign)[0] == 403
        status, kind, line = post(body(0, 8))
        assert (status, kind) == (200, "text/plain; charset=utf-8")
        assert cosigned(line.removesuffix("\n"), 8)
        assert line.endswith("\n")
        assert post(body(3, 9)) == (409, "text/x.tlog.size", "8\n")
        assert post(body(8, 20, fork=3))[0] == 422
        assert post(Submission(8, (), note(8, fork=3)).encode())[0] == 409
        assert client.get("/add-checkpoint").status_code == 405
        assert client.post("/").status_code == 404
