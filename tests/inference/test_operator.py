"""Commands of the operator: what is refused, and that each is done once."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import replace
from typing import Any

import pytest

from inference.operator import (
    MAX_AHEAD_S,
    MAX_NONCES,
    Command,
    OperatorGuard,
    OperatorRefusedError,
    operator_domain,
)
from registry.signing.signer import Signer

OPERATOR = Signer.random()
NODE = Signer.random().address
NOW = 1_700_000_000
DOMAIN = operator_domain(31337, NODE)
BODY = b'{"name":"small"}'
ORDER = {"action": "load", "path": "/admin/models", "body": BODY}


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> OperatorGuard:
    return OperatorGuard(DOMAIN, OPERATOR.address, clock)


def command(guard: OperatorGuard, **changes: Any) -> Command:
    made = Command(
        action="load",
        path="/admin/models",
        body=BODY,
        session=guard.session,
        nonce=secrets.token_bytes(32),
        deadline=NOW + 30,
    )
    return replace(made, **changes)


def signed(guard: OperatorGuard, **changes: Any) -> str:
    return command(guard, **changes).signed(OPERATOR, DOMAIN)


@pytest.mark.parametrize(
    "change",
    [
        {"action": "unload"},
        {"path": "/admin/models/small"},
        {"body": BODY + b" "},
        {"session": bytes(32)},
    ],
)
def test_a_command_for_anything_else_is_refused(
    guard: OperatorGuard, change: dict[str, Any]
) -> None:
    header = signed(guard, **change)
    with pytest.raises(OperatorRefusedError, match="not a command of the node's operator"):
        guard.check(header, **ORDER)


def test_a_command_by_another_key_or_for_another_node_is_refused(guard: OperatorGuard) -> None:
    for signer, domain in (
        (Signer.random(), DOMAIN),
        (OPERATOR, operator_domain(31337, OPERATOR.address)),
        (OPERATOR, operator_domain(1, NODE)),
        (OPERATOR, replace(DOMAIN, name="Weightproof")),
    ):
        with pytest.raises(OperatorRefusedError, match="not a command"):
            guard.check(command(guard).signed(signer, domain), **ORDER)


@pytest.mark.parametrize("deadline", [NOW - 1, NOW + MAX_AHEAD_S + 1, 0, 2**53 - 1])
def test_a_deadline_that_passed_or_is_too_far_ahead_is_refused(
    guard: OperatorGuard, deadline: int
) -> None:
    with pytest.raises(OperatorRefusedError, match="deadline"):
        guard.check(signed(guard, deadline=deadline), **ORDER)


def test_a_command_is_done_once(guard: OperatorGuard, clock: Clock) -> None:
    header = signed(guard, deadline=NOW + MAX_AHEAD_S)
    guard.check(header, **ORDER)
    for later in (0, 1, MAX_AHEAD_S):
        clock.now = NOW + later
        with pytest.raises(OperatorRefusedError, match="given before"):
            guard.check(header, **ORDER)
    # When its nonce is forgotten, its deadline has passed.
    clock.now = NOW + MAX_AHEAD_S + 1
    with pytest.raises(OperatorRefusedError, match="deadline"):
        guard.check(header, **ORDER)


def test_a_nonce_is_used_up_whatever_it_is_used_for(guard: OperatorGuard) -> None:
    nonce = secrets.token_bytes(32)
    guard.check(signed(guard, nonce=nonce), **ORDER)
    other = signed(guard, nonce=nonce, action="list")
    with pytest.raises(OperatorRefusedError, match="given before"):
        guard.check(other, action="list", path="/admin/models", body=BODY)


def test_a_command_to_the_run_before_a_restart_is_refused(guard: OperatorGuard) -> None:
    again = OperatorGuard(DOMAIN, OPERATOR.address, guard.clock)
    with pytest.raises(OperatorRefusedError, match="to this run"):
        again.check(signed(guard), **ORDER)


def word(guard: OperatorGuard) -> dict[str, Any]:
    text = signed(guard).removeprefix("Weightproof ")
    decoded: dict[str, Any] = json.loads(base64.b64decode(text))
    return decoded


def header_of(data: bytes) -> str:
    return "Weightproof " + base64.b64encode(data).decode()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Weightproof",
        "Weightproof ",
        "Weightproof !!!!",
        "Weightproof é",
        "Bearer abc",
        "Weightproof " + "A" * 5000,
        header_of(b"[]"),
        header_of(b"{}"),
        header_of(b"\xff"),
        header_of(b"[" * 700),
    ],
)
def test_a_header_that_is_no_command_is_refused(guard: OperatorGuard, header: str | None) -> None:
    with pytest.raises(OperatorRefusedError, match="needs a command signed"):
        guard.check(header, **ORDER)


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"deadline": str(NOW)},
        {"deadline": -1},
        {"deadline": True},
        {"deadline": 1.5},
        {"nonce": "0x" + "AB" * 32},
        {"nonce": "0x12"},
        {"nonce": 7},
        {"signature": "0x"},
        {"signature": "11" * 65},
        {"signature": None},
    ],
)
def test_a_word_that_is_not_written_as_it_must_be_is_refused(
    guard: OperatorGuard, change: dict[str, Any]
) -> None:
    good = word(guard)
    with pytest.raises(OperatorRefusedError, match="needs a command signed"):
        guard.check(header_of(canonical(good | change)), **ORDER)
    for missing in good:
        rest = {key: value for key, value in good.items() if key != missing}
        with pytest.raises(OperatorRefusedError, match="needs a command signed"):
            guard.check(header_of(canonical(rest)), **ORDER)
    with pytest.raises(OperatorRefusedError, match="needs a command signed"):
        guard.check(header_of(json.dumps(good).encode()), **ORDER)
    guard.check(header_of(canonical(good)), **ORDER)


def test_strangers_fill_no_memory_and_the_operator_only_so_much(guard: OperatorGuard) -> None:
    for _ in range(50):
        with pytest.raises(OperatorRefusedError):
            guard.check(command(guard).signed(Signer.random(), DOMAIN), **ORDER)
    assert not guard._nonces
    guard._nonces = {secrets.token_bytes(32): NOW + 9 for _ in range(MAX_NONCES)}
    with pytest.raises(OperatorRefusedError, match="too many commands"):
        guard.check(signed(guard), **ORDER)


def test_the_signature_stands_in_no_refusal(guard: OperatorGuard) -> None:
    header = signed(guard, session=bytes(32))
    with pytest.raises(OperatorRefusedError) as refusal:
        guard.check(header, **ORDER)
    said = refusal.value.message + refusal.value.hint
    assert "0x" not in said
    assert OPERATOR.address not in said


def test_what_is_signed_is_what_wallets_sign(guard: OperatorGuard) -> None:
    """eth-account, which wallets use too, gives the same digest for the same typed data."""
    from eth_account.messages import encode_typed_data
    from eth_hash.auto import keccak

    made = command(guard)
    types = {
        "OperatorCommand": [
            {"name": "action", "type": "string"},
            {"name": "path", "type": "string"},
            {"name": "body", "type": "bytes32"},
            {"name": "session", "type": "bytes32"},
            {"name": "nonce", "type": "bytes32"},
            {"name": "deadline", "type": "uint64"},
        ]
    }
    domain = {
        "name": "Weightproof operator",
        "version": "1",
        "chainId": 31337,
        "verifyingContract": NODE,
    }
    message = {
        "action": made.action,
        "path": made.path,
        "body": hashlib.sha256(BODY).digest(),
        "session": made.session,
        "nonce": made.nonce,
        "deadline": made.deadline,
    }
    encoded = encode_typed_data(domain, types, message)
    digest = keccak(b"\x19" + encoded.version + encoded.header + encoded.body)
    assert made.digest(DOMAIN) == digest
