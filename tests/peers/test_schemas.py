"""The published JSON Schemas, judged by npm `ajv`: they take and refuse what the parsers do.

Every good value is mutated in every place. Where schema and parser differ it must be for one of
the rules that JSON Schema has no words for, and then it is the parser that refuses.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.audit.bodies import entry_of
from inference.audit.disclosure import (
    Consent,
    Disclosed,
    DisclosureRequest,
    Refusal,
    disclosure_domain,
)
from inference.audit.document import Document, FormatError
from inference.audit.entry import entry_from
from inference.audit.evidence import evidence_from
from inference.audit.reader import LogIdentity
from inference.formats import FORMATS
from inference.proof import EntryKind, Proof
from inference.receipt_format import PlannedReceipt, Receipt
from inference.receipts import SignedReceipt
from registry.errors import CanonicalError
from tests.inference.proof_samples import PROOFS, RECORDED, REFUND, VECTORS
from tests.inference.receipt_samples import (
    ANCHOR,
    CHAIN_ID,
    NODE,
    OUTPUT_IDS,
    PAYER,
    REGISTRY,
    REQUEST,
    SALTS,
    STRANGER,
)
from tests.peers.clients import script

pytestmark = pytest.mark.peer
Parser = Callable[[Any], object]
EVIDENCE = Path(__file__).parents[1] / "vectors" / "evidence.json"

PARSERS: dict[str, Parser] = {
    "receipt@1": Receipt.from_json,
    "receipt@2": PlannedReceipt.from_json,
    "receipt-bundle@1": SignedReceipt.from_json,
    "entry@1": lambda value: EntryKind().load(value, "entry"),
    "proof@1": Proof.from_json,
    "log@1": LogIdentity.from_json,
    "evidence@1": evidence_from,
    "consent@1": Consent.from_json,
    "disclosure-request@1": DisclosureRequest.from_json,
    "disclosure@1": Disclosed.from_json,
    "disclosure-refusal@1": Refusal.from_json,
}
# What JSON Schema cannot say, in the parsers' words.
UNSAID = (
    "is not an EIP-55 address",
    "is not an amount",  # 78 digits may be more than 2^256
    "holds the receipt of",
    "the receipt is by",
    "without them nobody can say",
)
ASKING = disclosure_domain(CHAIN_ID, ANCHOR)
NAME = "rcpt_0000000000000001"
ALLOWED = Consent.give(PAYER, ASKING, node=NODE.address, until=2**40, rate=5_000)
ASKED = DisclosureRequest.ask(
    STRANGER, ASKING, node=NODE.address, receipt=NAME, at=1_800_000_000, consent=ALLOWED
)
DISCLOSURES: dict[str, Document] = {
    "consent@1": ALLOWED,
    "disclosure-request@1": ASKED,
    "disclosure@1": Disclosed(NAME, REQUEST, SALTS, OUTPUT_IDS),
    "disclosure-refusal@1": Refusal.sign(NODE, ASKING, ASKED, why="not kept", at=1_800_000_001),
}
PLANNED = next(name for name in VECTORS if name.startswith("v2-ok_tier"))
WRONG: list[Any] = [
    None, True, -1, 0, 2**53, 2**53 - 1, 1.5, "", "0", "01", "-1", "1e3", "x" * 201,
    "9" * 78, "9" * 79, "0x", "0x" + "0" * 64, "0x" + "AB" * 32, "0x" + "0" * 40,
    "0x" + "0" * 130, "ok", "none", "\n", "é", "\u2028", "ok\n", [], {},
    ["0x" + "00" * 32], {"format": "weightproof/receipt@1"},
]  # fmt: skip


def good() -> Iterator[tuple[str, Any]]:
    for vector in VECTORS.values():
        if "bundle" in vector and "refuse" not in vector:
            receipt = vector["bundle"]["receipt"]
            yield receipt["format"].removeprefix("weightproof/"), receipt
            yield "receipt-bundle@1", vector["bundle"]
            yield "receipt-bundle@1", {k: v for k, v in vector["bundle"].items() if k != "salts"}
        if "entry" in vector:
            yield "entry@1", json.loads(vector["entry"])
            yield "proof@1", json.loads(vector["proof"])
    for kept in json.loads(EVIDENCE.read_text()).values():
        yield "evidence@1", json.loads(kept)
    yield from ((name, one.to_json()) for name, one in DISCLOSURES.items())
    identity = {"origin": "node.example/log", "node": NODE.address, "chain": CHAIN_ID}
    more = {"anchor": ANCHOR, "registry": REGISTRY, "size": 3}
    yield "log@1", {"format": "weightproof/log@1"} | identity | more


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


def mutants(value: Any) -> Iterator[Any]:
    """Yield the value with each place changed in every way, dropped, and with a field more."""
    for path in places(value):
        for number, wrong in enumerate([None, *WRONG]):
            mutant = copy.deepcopy(value)
            place = mutant
            for key in path[:-1]:
                place = place[key]
            if number == 0:
                del place[path[-1]]
            else:
                place[path[-1]] = wrong
            yield mutant
    yield {**value, "tip": "1"}


def judged(folder: Path, values: list[tuple[str, Any]]) -> list[Any]:
    file = folder / "values.json"
    schemas = {name: one.schema for name, one in FORMATS.items()}
    file.write_text(json.dumps({"schemas": schemas, "values": values}))
    found: list[Any] = script("schemas.mjs", str(file))
    return found


def refusal_of(name: str, value: Any) -> str:
    """Return why the parser refuses a value, or nothing."""
    try:
        PARSERS[name](value)
    except (FormatError, CanonicalError) as error:
        return error.message
    return ""


def agree(folder: Path, values: list[tuple[str, Any]]) -> None:
    """Schema and parser judge alike, but for what a schema cannot say."""
    agreed = 0
    for (name, value), verdict in zip(values, judged(folder, values), strict=True):
        reason = refusal_of(name, value)
        if verdict is True and reason:
            assert any(rule in reason for rule in UNSAID), f"{name} takes what is refused: {reason}"
        else:
            assert (verdict is True) == (not reason), f"{name}: {verdict}, and the parser: {reason}"
            agreed += 1
    assert agreed > 0.9 * len(values)


def test_every_schema_compiles_and_takes_what_is_good(tmp_path: Path) -> None:
    values = list(good())
    assert {name for name, _ in values} == set(PARSERS)
    for (name, _), verdict in zip(values, judged(tmp_path, values), strict=True):
        assert verdict is True, f"{name}: {verdict}"


@pytest.mark.parametrize("source", [RECORDED, REFUND, PLANNED])
def test_schema_and_parser_refuse_the_same_mutants(tmp_path: Path, source: str) -> None:
    proof = json.loads(PROOFS[source])
    values = [("proof@1", mutant) for mutant in mutants(proof)]
    entry = proof["entry"]
    if source == REFUND:
        values += [("entry@1", mutant) for mutant in mutants(entry)]
    else:
        receipt = entry["body"]["receipt"]
        name = receipt["format"].removeprefix("weightproof/")
        values += [(name, mutant) for mutant in mutants(receipt)]
    agree(tmp_path, values)


@pytest.mark.parametrize("lie", ["fork", "rewrite", "drop", "silence"])
def test_schema_and_parser_refuse_the_same_mutants_of_evidence(tmp_path: Path, lie: str) -> None:
    evidence = json.loads(json.loads(EVIDENCE.read_text())[lie])
    agree(tmp_path, [("evidence@1", mutant) for mutant in mutants(evidence)])


@pytest.mark.parametrize("name", DISCLOSURES)
def test_schema_and_parser_refuse_the_same_mutants_of_disclosures(
    tmp_path: Path, name: str
) -> None:
    agree(tmp_path, [(name, mutant) for mutant in mutants(DISCLOSURES[name].to_json())])


def test_a_refusal_in_the_log_is_the_one_that_was_told() -> None:
    refusal = DISCLOSURES["disclosure-refusal@1"]
    assert isinstance(refusal, Refusal)
    body = entry_of(7, refusal).body
    assert refusal_of("disclosure-refusal@1", body) == ""
    properties = FORMATS["entry@1"].schema["$defs"]["Refusal"]["properties"]
    assert properties == FORMATS["disclosure-refusal@1"].schema["properties"]


def test_the_parser_of_entries_is_the_logs() -> None:
    entry = json.loads(VECTORS[RECORDED]["entry"])
    assert entry_from(entry) == EntryKind().load(entry, "entry")
