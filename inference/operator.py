"""The operator's word: commands to a running node, each signed once for it with EIP-712.

A command is what is done (`action`), to which path, with which exact body, for this run of this
node (`session`), once (`nonce`), and soon (`deadline`). It travels as

    Authorization: Weightproof BASE64({"deadline":…,"nonce":"0x…","signature":"0x…"})

The node keeps the nonces it has seen until their deadlines. A session is drawn when a node starts,
so that a command heard before a restart is worth nothing after it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from inference.errors import NodeError
from registry.errors import CanonicalError, SignatureError
from registry.signing.canonical import JsonObject, decode_object, encode
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

SCHEME: Final = "Weightproof"
# How far ahead a deadline may lie, in seconds: what a stolen command can wait for.
MAX_AHEAD_S: Final = 60
# More commands than this within a minute are no operator's; it bounds the nonces in memory.
MAX_NONCES: Final = 4096
# A header takes some 400 characters.
_MAX_HEADER: Final = 1024
_NONCE: Final = re.compile(r"0x[0-9a-f]{64}")
_SIGNATURE: Final = re.compile(r"0x[0-9a-f]{130}")

COMMAND_STRUCT: Final = Struct(
    "OperatorCommand",
    {
        "action": "string",
        "path": "string",
        "body": "bytes32",
        "session": "bytes32",
        "nonce": "bytes32",
        "deadline": "uint64",
    },
)


class OperatorRefusedError(NodeError):
    """A command that is not the operator's, comes too late, or came before."""

    status = 401
    code = "operator_refused"
    exit_code = 2


class ModelRefusedError(NodeError):
    """A model that was to be loaded is not what the chain vouches for, or cannot be loaded."""

    status = 422
    code = "model_refused"
    exit_code = 3


@dataclass(frozen=True)
class Command:
    """What an operator orders. `body` is the request's exact bytes, `deadline` in unix seconds.

    `path` is the request's path without percent-encoding; `session` and `nonce` have 32 bytes.
    """

    action: str
    path: str
    body: bytes
    session: bytes
    nonce: bytes
    deadline: int

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that are signed."""
        values: dict[str, object] = {
            "action": self.action,
            "path": self.path,
            "body": hashlib.sha256(self.body).digest(),
            "session": self.session,
            "nonce": self.nonce,
            "deadline": self.deadline,
        }
        return COMMAND_STRUCT.digest(domain.separator(), values)

    def signed(self, signer: Signer, domain: Domain) -> str:
        """Return the Authorization header that carries this command."""
        signature = signer.sign_digest(self.digest(domain))
        word: JsonObject = {
            "deadline": self.deadline,
            "nonce": "0x" + self.nonce.hex(),
            "signature": "0x" + signature.hex(),
        }
        return f"{SCHEME} {base64.b64encode(encode(word)).decode()}"


@dataclass
class OperatorGuard:
    """Lets through what `operator` signed for the node of `domain`, each command once."""

    domain: Domain
    operator: str
    clock: Callable[[], float] = time.time
    session: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _nonces: dict[bytes, int] = field(default_factory=dict, init=False, repr=False)

    def check(self, header: str | None, *, action: str, path: str, body: bytes) -> None:
        """Raise `OperatorRefusedError` unless the header carries this very command, unused."""
        nonce, deadline, signature = _parse(header)
        command = Command(action, path, body, self.session, nonce, deadline)
        try:
            signer = recover(command.digest(self.domain), signature)
        except SignatureError:
            signer = ""
        if signer != self.operator:
            raise _refused("this is not a command of the node's operator to this run of the node")
        now = self.clock()
        if not now <= deadline <= now + MAX_AHEAD_S:
            raise _refused(
                f"the command's deadline is not within the next {MAX_AHEAD_S} seconds",
                "do the clocks agree?",
            )
        # Only what the operator signed is remembered: strangers cannot fill the memory.
        self._nonces = {used: until for used, until in self._nonces.items() if until >= now}
        if nonce in self._nonces:
            raise _refused("this command was given before", "sign a new one")
        if len(self._nonces) >= MAX_NONCES:
            raise _refused("too many commands within a minute", "try again later")
        self._nonces[nonce] = deadline


def operator_domain(chain_id: int, node: str) -> Domain:
    """Return the EIP-712 domain of commands to the node with that address."""
    return Domain("Weightproof operator", "1", chain_id, node)


def _parse(header: str | None) -> tuple[bytes, int, bytes]:
    """Return nonce, deadline and signature; whatever is wrong, the refusal is the same."""
    scheme, _, text = (header or "").partition(" ")
    try:
        if scheme != SCHEME or len(text) > _MAX_HEADER or not text.isascii():
            raise CanonicalError("not a command")
        word = decode_object(base64.b64decode(text, validate=True), max_bytes=_MAX_HEADER)
    except (ValueError, CanonicalError):
        word = {}
    match word:
        case {"deadline": int(deadline), "nonce": str(nonce), "signature": str(signature)} if (
            len(word) == 3
            and deadline >= 0
            and _NONCE.fullmatch(nonce)
            and _SIGNATURE.fullmatch(signature)
        ):
            return bytes.fromhex(nonce[2:]), deadline, bytes.fromhex(signature[2:])
    raise _refused(
        "this needs a command signed by the node's operator",
        "weightproof models signs with the key of role operator, else node",
    )


def _refused(message: str, hint: str = "") -> OperatorRefusedError:
    return OperatorRefusedError(message, hint=hint)
