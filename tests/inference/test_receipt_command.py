"""`weightproof receipt verify`, alone with a file: what is refused, what is false, what holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inference.cli import app
from inference.proof import MAX_PATH
from tests.inference.proof_samples import (
    CHANNEL,
    PROOFS,
    RECORDED,
    REFUND,
    VECTORS,
    canonical,
    changed,
    receipt_of,
)
from tests.inference.receipt_samples import ANCHOR, STRANGER

Change = Callable[[Any], object]
HASH = "0x" + "00" * 32


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def run(*arguments: object) -> Ran:
    """Run a command in this process; nothing but an exit code may come out of it."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def verified(path: Path, text: str | bytes, *options: object) -> Ran:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return run("receipt", "verify", path, "--offline", *options)


def bundle(change: Change = lambda _: None) -> str:
    """Return what `chat --save` writes, with one change."""
    saved = json.loads(json.dumps(VECTORS[CHANNEL]["bundle"]))
    change(saved)
    return json.dumps(saved, indent=2)


def _payment(proof: Any, **values: Any) -> None:
    receipt_of(proof)["payment"].update(values)


FORMS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "not JSON"),
    "text": ("hello", "not JSON"),
    "not UTF-8": (b"\xff\xfe", "not UTF-8"),
    "a list": ("[]", "not a JSON object"),
    "a number": ("7", "not a JSON object"),
    "an empty object": ("{}", "format None"),
    "half of it": (PROOFS[CHANNEL][:900], "not JSON"),
    "two of it": (PROOFS[CHANNEL] * 2, "not JSON"),
    "a line's end": (PROOFS[CHANNEL] + "\n", "not canonical"),
    "spaces": (PROOFS[CHANNEL].replace(":", ": ", 1), "not canonical"),
    "an escape": (PROOFS[CHANNEL].replace("smollm2", "\\u0073mollm2", 1), "not canonical"),
    "another order": (
        json.dumps(dict(reversed(json.loads(PROOFS[CHANNEL]).items())), separators=(",", ":")),
        "not canonical",
    ),
    "a duplicate key": (
        PROOFS[CHANNEL].replace('"chain":31337', '"chain":1,"chain":31337', 1),
        "duplicate key 'chain'",
    ),
    "a float": (PROOFS[CHANNEL].replace('"chain":31337', '"chain":31337.0', 1), "not an integer"),
    "an exponent": (PROOFS[CHANNEL].replace('"chain":31337', '"chain":3e4', 1), "not an integer"),
    "NaN": (PROOFS[CHANNEL].replace('"chain":31337', '"chain":NaN', 1), "not an integer"),
    "null": (PROOFS[CHANNEL].replace('"chain":31337', '"chain":null', 1), "None"),
    "true": (PROOFS[CHANNEL].replace('"chain":31337', '"chain":true', 1), "True"),
    "minus nothing": (PROOFS[CHANNEL].replace('"seq":3}', '"seq":-0}', 1), "not canonical"),
    "endless digits": (
        PROOFS[CHANNEL].replace("31337", "9" * 100_000, 1),
        "100000 characters is beyond",
    ),
    "2^53": (PROOFS[CHANNEL].replace('"chain":31337', f'"chain":{2**53}', 1), "beyond 2^53"),
    "deep nesting": ("[" * 100_000, "nested deeper than 16"),
    "deep objects": ('{"receipt":' * 50_000 + "1" + "}" * 50_000, "nested deeper than 16"),
    "17 deep": ('{"a":' * 17 + "{}" + "}" * 17, "nested deeper than 16"),
    "a lone surrogate": (
        PROOFS[CHANNEL].replace('"note', '"\\ud800', 1).replace("smollm2", "\\ud800", 1),
        "canonical",
    ),
    "a receipt of the future": (
        bundle(lambda b: b["receipt"].update(format="weightproof/receipt@3")),
        "weightproof/receipt@3",
    ),
    "a receipt twice": (bundle().replace('"receipt"', '"receipt": {}, "receipt"', 1), "duplicate"),
    "a receipt too many": (bundle(lambda b: b.update(note="hi")), "note: unknown field"),
    "a receipt without signature": (bundle(lambda b: b.pop("signature")), "missing"),
    "a receipt of floats": (
        bundle(lambda b: b["receipt"].update(seq=3.5)),
        "not an integer",
    ),
    "huge charges": (
        bundle(lambda b: b["receipt"]["payment"].update(charged="9" * 5000)),
        "receipt.payment.charged",
    ),
}
PROOF_FORMS: dict[str, tuple[Change, str]] = {
    "of the future": (lambda p: p.update(format="weightproof/proof@2"), "weightproof/proof@2"),
    "of no format": (lambda p: p.pop("format"), "format None"),
    "a receipt of the future": (
        lambda p: receipt_of(p).update(format="weightproof/receipt@9"),
        "entry.receipt: format 'weightproof/receipt@9'",
    ),
    "an entry of the future": (
        lambda p: p["entry"].update(format="weightproof/entry@2"),
        "entry.format",
    ),
    "an entry of no kind": (lambda p: p["entry"].update(kind="gift"), "entry.kind"),
    "no entry": (lambda p: p.update(entry=[]), "entry.entry: not an object"),
    "a note without a body": (
        lambda p: p["entry"].update(kind="settlement", body={}),
        "entry.body: field 'action' is missing",
    ),
    "salts in the log": (
        lambda p: p["entry"]["body"].update(salts=p["salts"]),
        "the log holds no salts",
    ),
    "another place": (lambda p: p["entry"].update(seq=4), "entry 4 holds the receipt of 3"),
    "another node": (lambda p: p.update(node=STRANGER.address), "node: the receipt is by"),
    "a field more": (lambda p: p.update(tip="1"), "field 'tip' is unknown"),
    "a field less": (lambda p: p.pop("checkpoint"), "field 'checkpoint' is missing"),
    "bodies without salts": (lambda p: p.pop("salts"), "without them nobody can say"),
    "half the salts": (lambda p: p["salts"].pop("request"), "salts: field 'request' is missing"),
    "a body that is no base64": (lambda p: p.update(request="??"), "request: not base64"),
    "a body of another spelling": (lambda p: p.update(request="aGl="), "unused bits are set"),
    "a path too long": (
        lambda p: p["inclusion"].update(path=[HASH] * (MAX_PATH + 1)),
        f"inclusion.path: not a list of at most {MAX_PATH}",
    ),
    "a path of a million": (lambda p: p["inclusion"].update(path=[HASH] * 10**5), "at most 63"),
    "a path of no hashes": (lambda p: p["inclusion"].update(path=["0x"]), "inclusion.path[0]"),
    "a path of no list": (lambda p: p["inclusion"].update(path={}), "not a list"),
    "a size of text": (lambda p: p["inclusion"].update(size="11"), "inclusion.size"),
    "a negative size": (lambda p: p["inclusion"].update(size=-1), "inclusion.size"),
    "an anchor in lower case": (lambda p: p.update(anchor=ANCHOR.lower()), "EIP-55"),
    "a note that moves the cursor": (
        lambda p: p.update(checkpoint=p["checkpoint"] + "\x1b[2J"),
        "checkpoint",
    ),
    "a charge with a zero before": (lambda p: _payment(p, charged="0128"), "payment.charged"),
    "a charge beyond 2^256": (lambda p: _payment(p, charged=str(1 << 256)), "charged"),
}
FALSE: dict[str, tuple[Change, int, str]] = {
    "another charge": (lambda p: _payment(p, charged="127", cumulative="127"), 1, "changed"),
    "another chain": (lambda p: p.update(chain=1), 1, "changed"),
    "another log contract": (lambda p: p.update(anchor=STRANGER.address), 1, "changed"),
    "another request": (lambda p: p.update(request="aGk="), 2, "another request"),
    "another response": (lambda p: p.update(response="aGk="), 2, "another response"),
    "other salts": (lambda p: p["salts"].update(request=HASH), 2, "another request"),
    "a path too short": (lambda p: p["inclusion"]["path"].pop(), 4, "too few"),
    "one hash too many": (lambda p: p["inclusion"]["path"].append(HASH), 4, "too many"),
    "no path": (lambda p: p["inclusion"].update(path=[]), 4, "too few"),
    "another path": (lambda p: p["inclusion"]["path"].reverse(), 4, "leads to root"),
    "another size": (lambda p: p["inclusion"].update(size=12), 4, "the checkpoint is of 11"),
    "no note": (lambda p: p.update(checkpoint="hello\n"), 4, "not a note"),
    "a head nobody signed": (
        lambda p: p.update(checkpoint=p["checkpoint"].partition("\n\n")[0] + "\n\n"),
        4,
        "not a note",
    ),
    "a head signed otherwise": (
        lambda p: p.update(checkpoint=p["checkpoint"].replace("5BVw8p", "5BVw8q", 1)),
        5,
        "belongs to no key",
    ),
    "another anchored root": (lambda p: p["anchored"].update(root=HASH), 6, "leads to root"),
    "an anchored head too small": (lambda p: p["anchored"].update(size=2), 6, "not in a tree"),
}


def refuses(ran: Ran, code: int, *words: str) -> None:
    assert (ran.code, ran.out) == (code, ""), ran
    assert ran.err.startswith("weightproof: ")
    assert ran.err.count("\n") == 1
    assert len(ran.err) < 600
    for word in words:
        assert word in ran.err


@pytest.mark.parametrize("name", FORMS)
def test_a_file_that_is_no_receipt_and_no_proof_is_refused_in_one_sentence(
    tmp_path: Path, name: str
) -> None:
    text, reason = FORMS[name]
    for options in ((), ("--json",)):
        refuses(verified(tmp_path / "it.json", text, "--anchor", ANCHOR, *options), 3, reason)


@pytest.mark.parametrize("name", PROOF_FORMS)
def test_a_proof_of_another_form_is_refused_by_the_field_at_fault(
    tmp_path: Path, name: str
) -> None:
    change, reason = PROOF_FORMS[name]
    refuses(verified(tmp_path / "proof.json", changed(change)), 3, reason)


def test_a_file_of_a_hundred_megabytes_is_refused_and_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    refuses(run("receipt", "verify", path, "--offline"), 3, "large.json: more than 50331648 bytes")
    small = tmp_path / "proof.json"
    small.write_text(PROOFS[CHANNEL])
    ran = run("receipt", "verify", small, "--offline", "--request", path)
    refuses(ran, 3, "large.json: more than 16777216 bytes")


def test_what_is_not_there_or_not_allowed_is_exit_2(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    refuses(run("receipt", "verify", path, "--offline"), 2, "none.json")
    refuses(run("receipt", "verify", tmp_path, "--offline"), 2, "irectory")
    refuses(verified(path, bundle()), 2, "does not say where its log is anchored", "--anchor")
    refuses(verified(path, bundle(), "--anchor", "0x12"), 2, "--anchor")
    refuses(verified(path, bundle(), "--anchor", ANCHOR, "--address", "me"), 2, "--address")
    refuses(run("receipt", "schema", "receipt@7"), 2, "receipt@7", "proof@1")


@pytest.mark.parametrize("name", FALSE)
def test_a_false_proof_is_exit_6_by_the_step_that_fails_and_with_evidence(
    tmp_path: Path, name: str
) -> None:
    change, number, reason = FALSE[name]
    ran = verified(tmp_path / "proof.json", changed(change), "--json")
    assert ran.code == 6, ran
    said = json.loads(ran.out)
    assert not said["ok"]
    first = next(step for step in said["checks"] if step["ran"] and not step["ok"])
    assert (first["number"], reason in first["detail"]) == (number, True), first
    assert first["evidence"]


def test_another_node_than_expected_is_exit_6(tmp_path: Path) -> None:
    ran = verified(tmp_path / "p.json", PROOFS[CHANNEL], "--address", STRANGER.address)
    assert ran.code == 6
    assert f"is by node {VECTORS[CHANNEL]['node']}" in ran.out
    assert "✗ 5" in ran.out


def test_a_record_of_another_publisher_is_exit_6(tmp_path: Path) -> None:
    text = changed(lambda p: p["record"].update(publisher=STRANGER.address), RECORDED)
    ran = verified(tmp_path / "p.json", text)
    assert ran.code == 6
    assert "✗ 7 model record" in ran.out


@pytest.mark.parametrize(
    "name", [name for name, v in VECTORS.items() if "refuse" in v], ids=lambda name: name
)
def test_what_nobody_may_believe_is_exit_6(tmp_path: Path, name: str) -> None:
    vector = VECTORS[name]
    path = tmp_path / "paid.json"
    for body in ("request", "response"):
        path.with_suffix(f".{body}").write_text(vector[body])
    ran = verified(path, json.dumps(vector["bundle"]), "--anchor", ANCHOR, "--json")
    assert ran.code == 6
    failed = [step for step in json.loads(ran.out)["checks"] if step["ran"] and not step["ok"]]
    assert any(vector["refuse"]["reason"] in step["detail"] for step in failed)


@pytest.mark.parametrize("name", PROOFS)
def test_every_vectors_proof_verifies_without_any_network(tmp_path: Path, name: str) -> None:
    ran = verified(tmp_path / "proof.json", PROOFS[name], "--json")
    assert ran.code == 0, ran
    said = json.loads(ran.out)
    assert said["ok"]
    assert said["node"] == VECTORS[CHANNEL]["node"]
    done = [step["number"] for step in said["checks"] if step["ran"]]
    assert done == ([4, 5] if name == REFUND else [1, 2, 3, 4, 5])


def test_a_receipt_is_verified_with_the_bodies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "paid.json"
    ran = verified(path, bundle(), "--anchor", ANCHOR)
    assert "· 2 bytes: neither" in ran.out
    assert "not run: 2, 4, 5, 6, 7" in ran.out
    for body in ("request", "response"):
        path.with_suffix(f".{body}").write_text(VECTORS[CHANNEL][body])
    ran = verified(path, bundle(), "--anchor", ANCHOR, "--address", VECTORS[CHANNEL]["node"])
    assert (ran.code, "✓ 2 bytes: about the very request and response" in ran.out) == (0, True)


def test_a_proof_says_which_word_is_whose(tmp_path: Path) -> None:
    ran = verified(tmp_path / "proof.json", PROOFS[RECORDED])
    assert "· 6 anchored: saved as anchored in block 20; no chain was asked" in ran.out
    assert "· 7 model record: saved as vouched for by 1; no chain was asked" in ran.out
    bare = changed(lambda p: p.pop("anchored"))
    assert "before a head that holds it was anchored" in verified(tmp_path / "b", bare).out


def test_what_a_proof_says_cannot_take_over_a_terminal(tmp_path: Path) -> None:
    text = changed(lambda p: receipt_of(p).update(id="rcpt_\x1b[2J0123456789"))
    ran = verified(tmp_path / "proof.json", text)
    assert ran.code == 3
    assert "\x1b" not in ran.err


def test_the_canonical_samples_are_those_of_the_vectors() -> None:
    assert canonical(json.loads(PROOFS[CHANNEL])) == PROOFS[CHANNEL]
