"""`weightproof probe`: asks a node to hash its weights for a fresh nonce, and checks its answer.

Record and manifest come from the chain and the block store of the settings; of the node, only its
signed statement is read, and it is compared with both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx

from inference.audit.document import FormatError
from inference.audit.reader import BadAnswerError, LogReader
from inference.audit.report import CheckResult
from inference.errors import UnavailableError
from inference.probe_report import NOT_PROVEN, ProbeReport
from inference.remote import bounded, models, node_client
from inference.resident_statement import (
    MAX_BYTES,
    Question,
    SignedStatement,
    StatementError,
    body,
    check_question,
    check_runtime,
    check_selection,
    check_signature,
    check_tensors,
)
from registry.adapter import base_id, is_adapter, resident_entries
from registry.chain.block import Block
from registry.chain_facts import ChainFacts
from registry.config import RegistryConfig, checked_address
from registry.errors import (
    CanonicalError,
    ChainMismatchError,
    ChainStaleError,
    ConfigError,
    ManifestError,
    PolicyError,
    RecordError,
    WeightproofError,
)
from registry.hashing.resident_digest import resident_digest
from registry.manifest import ModelManifest
from registry.manifest_parts import TensorEntry
from registry.record import record_id
from registry.signing.canonical import decode_object
from registry.terminal import Terminal, plain
from registry.verify import fetch_manifest
from registry.workspace import Workspace

_NONCE_BYTES: Final = 32
# A busy node says when to ask again: how often that is done, and how long is waited at most.
_TRIES: Final = 4
_LONGEST_WAIT_S: Final = 30
# How far the node's clock may be from ours.
_CLOCK_S: Final = 300


@dataclass(frozen=True)
class _Model:
    """A record that stands, and its manifest."""

    id: bytes
    manifest: ModelManifest


@dataclass(frozen=True)
class _Truth:
    """What the chain and the block store say of a model, and of an adapter's base."""

    workspace: Workspace
    model: _Model
    base: _Model | None
    tensors: tuple[TensorEntry, ...]
    resident_digest: bytes


def run(
    config: RegistryConfig, url: str, model: str, terminal: Terminal, *, address: str, tensors: int
) -> bool:
    """Probe and print what was found; whether the node's answer is true. Raises like `probe`."""
    report = probe(Workspace.open(config), url, model, terminal, address=address, tensors=tensors)
    _show(report, terminal)
    return report.ok


def probe(
    workspace: Workspace, url: str, model: str, terminal: Terminal, *, address: str, tensors: int
) -> ProbeReport:
    """Probe `model` (a ModelId, PUBLISHER/NAME, or the node's own name for it) at `url`.

    `address` is the node's key, by its own word when empty. Raises what `verify_model` raises for
    a model that does not stand, `UnavailableError` for a node that gives no statement.
    """
    with node_client(url) as client, terminal.steps_bar("probing", None) as advance:
        node = checked_address(address, "--address") if address else _key(client)
        advance("the record")
        truth = _truth(workspace, _model_id(workspace, client, model))
        question = Question(
            node=node,
            chain_id=workspace.records.chain_id,
            registry=workspace.records.address,
            model_id=truth.model.id,
            nonce=os.urandom(_NONCE_BYTES),
            asked=tensors,
        )
        advance("the node's memory")
        answer = _ask(client, question)
        advance("the statement")
        try:
            signed = SignedStatement.from_json(decode_object(answer, max_bytes=MAX_BYTES))
        except (CanonicalError, FormatError) as error:
            return _unreadable(question, answer, error)
        return _examine(signed, question, truth)


def _show(report: ProbeReport, terminal: Terminal) -> None:
    """Print one line a check and what they prove, or the whole report as one object."""
    if terminal.as_json:
        terminal.result(report.to_json())
        return
    for check in report.checks:
        line = f"{'✓' if check.ok else '✗'} {check.number} {check.name}: {plain(check.detail)}"
        terminal.out.print(line, markup=False, style=None if check.ok else "red")
    if not report.ok:
        terminal.out.print("the statement is false; --json prints the evidence", markup=False)
        return
    terminal.out.print(f"proven: {plain(report.proven)}", markup=False)
    for text in NOT_PROVEN:
        terminal.out.print(f"not proven: {text}", markup=False)


def _key(client: httpx.Client) -> str:
    try:
        return LogReader(client).identity().node
    except BadAnswerError as error:
        raise UnavailableError(
            f"{client.base_url} is not a node of ours: {error.message}",
            hint="is the address right?",
        ) from error


def _model_id(workspace: Workspace, client: httpx.Client, model: str) -> bytes:
    if model.startswith("0x") or "/" in model:
        return workspace.find(model)
    for sold in models(client):
        facts = sold.get("weightproof")
        if sold.get("id") == model and isinstance(facts, dict):
            return workspace.find(str(facts.get("model_id")))
    raise ConfigError(
        f"the node sells no model {model!r:.80}", hint="give its ModelId (0x…) or PUBLISHER/NAME"
    )


def _truth(workspace: Workspace, model_id: bytes) -> _Truth:
    """Read records and manifests, and refuse a model that does not stand now."""
    facts = _facts(workspace, workspace.trusted_block())
    model = _read(facts, workspace, model_id)
    base = None
    if is_adapter(model.manifest):
        base = _read(facts, workspace, base_id(model.manifest.parents))
    tensors = resident_entries(model.manifest, base.manifest if base else None)
    digests = {tensor.name: tensor.digest for tensor in tensors}
    return _Truth(workspace, model, base, tensors, resident_digest(digests))


def _facts(workspace: Workspace, block: Block) -> ChainFacts:
    return ChainFacts(
        workspace.records,
        workspace.attestations,
        workspace.config.policy,
        block,
        int(time.time()),
    )


def _read(facts: ChainFacts, workspace: Workspace, model_id: bytes) -> _Model:
    record = facts.active(model_id)
    if record_id(record.publisher, record.manifest_digest) != model_id:
        raise ChainMismatchError("the record's publisher and digest make another id")
    manifest = fetch_manifest(workspace.blocks, record)
    if not isinstance(manifest, ModelManifest):
        raise RecordError(f"the manifest of 0x{model_id.hex()} is not of a model")
    model = _Model(model_id, manifest)
    _check_standing(facts, model)
    return model


def _check_standing(facts: ChainFacts, model: _Model) -> None:
    """Raise unless the policy of the settings accepts the model at the facts' block."""
    facts.check_policy(facts.active(model.id), model.manifest, facts.counting(model.id))


def _ask(client: httpx.Client, question: Question) -> bytes:
    """Return the node's answer; a busy node is asked again."""
    path = f"/v1/models/0x{question.model_id.hex()}/attest"
    for left in reversed(range(_TRIES)):
        status, answer, wait_s = _post(client, path, question)
        if status == 200:
            return answer
        if status == 429 and left:
            time.sleep(min(wait_s, _LONGEST_WAIT_S))
        else:
            break
    raise UnavailableError(
        f"the node gives no statement: {_reason(answer, status)}",
        hint="a model that was stopped is not vouched for any more",
    )


def _post(client: httpx.Client, path: str, question: Question) -> tuple[int, bytes, int]:
    """Return status, body and seconds to wait; no more is read than a statement may have."""
    asked = body(question.nonce, question.asked)
    response, answer = bounded(client, "POST", path, limit=MAX_BYTES, json=asked)
    wait = response.headers.get("retry-after", "")
    seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else 1
    return response.status_code, answer, seconds


def _reason(answer: bytes, status: int) -> str:
    try:
        return str(httpx.Response(status, content=answer).json()["error"]["message"])[:400]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"status {status}"


def _unreadable(question: Question, answer: bytes, error: WeightproofError) -> ProbeReport:
    shown = answer.decode("utf-8", errors="replace")
    form = CheckResult(0, "form", False, f"no statement: {error.message}", {"answer": shown})
    return ProbeReport(question.model_id, question.node, (form,), "", {})


def _examine(signed: SignedStatement, question: Question, truth: _Truth) -> ProbeReport:
    manifest, tensors, resident = truth.model.manifest, truth.tensors, truth.resident_digest
    checks: list[tuple[str, Callable[[], str]]] = [
        ("signature", lambda: check_signature(signed, question.node)),
        ("question", lambda: check_question(signed, question)),
        ("selection", lambda: check_selection(signed, tensors, resident)),
        ("tensors", lambda: check_tensors(signed, manifest.digest, tensors, resident)),
        ("runtime", lambda: check_runtime(signed, manifest.serving.dtype)),
        ("time and block", lambda: _check_when(signed, truth)),
    ]
    results = tuple(_run(number, *check) for number, check in enumerate(checks, start=1))
    stated = signed.statement
    proven = (
        f"the key {stated.node} signed for a nonce of ours that {len(stated.tensors)} tensors in "
        f"its memory are those of 0x{truth.model.id.hex()}; if not, this statement convicts it"
    )
    return ProbeReport(truth.model.id, question.node, results, proven, signed.to_json())


def _run(number: int, name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(number, name, True, check())
    except StatementError as error:
        return CheckResult(number, name, False, error.message, error.evidence)


def _check_when(signed: SignedStatement, truth: _Truth) -> str:
    """Check 6: made now, and the block it names is one at which the model stood."""
    workspace, stated = truth.workspace, signed.statement
    now = int(time.time())
    off = abs(now - stated.made_at)
    if off > _CLOCK_S:
        raise StatementError(6, f"its time is {off} s from ours", evidence=signed.evidence())
    named = stated.model.block
    try:
        block = workspace.chain.block_at(named.number)
        if block.hash != named.hash:
            raise ChainMismatchError(f"block {named.number} has the hash 0x{block.hash.hex()}")
        for model in filter(None, (truth.model, truth.base)):
            _check_standing(_facts(workspace, block), model)
    except (ChainMismatchError, ChainStaleError, ManifestError, PolicyError, RecordError) as error:
        text = f"it says the model stood at block {named.number}: {error.message}"
        raise StatementError(6, text, evidence=signed.evidence()) from error
    return f"made {off} s ago, found to stand at block {block.number}"
