"""The node's heads, cosigned by witnesses.

Who trusts one of them need not trust the node not to show two payers two logs. Each round the
newest head is signed and shown to every witness at once; the lines that came back are checked and
added to its note, and it is published with as many as there are. A witness that does not answer,
or answers wrongly, costs its line and nothing else: the node goes on selling.

1. sign the newest head
2. ask each witness, from the head it saw last; it says so itself where we do not know
3. check its line, and add it to the note
4. publish the head
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx
from sqlalchemy import Connection

from inference.audit.checkpoint import Checkpoint, SignedCheckpoint
from inference.audit.log import AuditLog
from inference.audit.note import NoteError, VerifierKey
from inference.audit.submission import Submission
from inference.database import Database
from inference.errors import UnavailableError
from inference.witness_config import CosigningConfig, WitnessConfig
from registry.errors import WeightproofError

# For all that one witness does in a round, however slowly it answers.
TIMEOUT_S: Final = 10.0
# What a witness answers: a few lines, or one number.
_MAX_ANSWER_BYTES: Final = 4096
_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,18})\n", re.ASCII)


class WitnessError(UnavailableError):
    """A witness did not cosign a head."""


@dataclass
class Cosigning:
    """Asks the witnesses of `config`. Where there are none, every head may be shown.

    `sign` signs the newest head of `log` and keeps it. A witness gets `timeout_s` seconds a round.
    """

    database: Database
    log: AuditLog
    sign: Callable[[], SignedCheckpoint]
    config: CosigningConfig = field(default_factory=CosigningConfig)
    timeout_s: float = TIMEOUT_S
    # By the witness's name: the size it cosigned last, and why it did not this time.
    _seen: dict[str, int] = field(default_factory=dict, init=False)
    _failing: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def error(self) -> str:
        """Which witnesses did not cosign the last head, and why; empty when all did."""
        return "; ".join(f"{name}: {why}" for name, why in sorted(self._failing.items()))

    def head(self) -> str:
        """Return the note to show: the newest, or the newest that the witnesses were asked about.

        Raises `UnavailableError` before the first round.
        """
        if not self.config.witnesses:
            return self.sign().note
        if (note := self.database.read(self.log.published)) is None:
            raise UnavailableError("no head was shown to the witnesses yet", hint="try again")
        return note

    async def run(self) -> None:
        """Go round until cancelled."""
        while True:
            try:
                await self.go()
                self._failing.pop("node", None)
            except Exception as error:  # a door: an odd error must not end the rounds for ever
                self._failing["node"] = _why(error)
            await asyncio.sleep(self.config.every_s)

    async def go(self) -> int:
        """Go one round; return how many witnesses cosigned."""
        signed = await asyncio.to_thread(self.sign)  # 1
        head, log = signed.checkpoint, self.log
        asked = (self._cosigned(witness, head) for witness in self.config.witnesses)
        lines = [line for line in await asyncio.gather(*asked) if line]  # 2, 3
        now = int(time.time())

        def publish(tx: Connection) -> None:
            log.add_lines(tx, head.size, lines)
            log.publish(tx, head.size, now)

        await self.database.write(publish)  # 3, 4
        return len(lines)

    async def _cosigned(self, witness: WitnessConfig, head: Checkpoint) -> str:
        """Return a witness's line, or nothing: what it does must not stop the round."""
        name = witness.key.name
        try:
            async with asyncio.timeout(self.timeout_s):
                line = await self._ask(witness, head)
        except Exception as error:  # a door, as above: its answers are anybody's bytes
            self._failing[name] = _why(error)
            return ""
        self._seen[name] = head.size
        self._failing.pop(name, None)
        return line

    async def _ask(self, witness: WitnessConfig, head: Checkpoint) -> str:
        name = witness.key.name
        old = min(self._seen.get(name, 0), head.size)
        async with httpx.AsyncClient(timeout=None) as client:
            status, text = await self._send(client, witness.url, old, head)
            if status == 409 and (match := _SIZE.fullmatch(text)):
                old = self._seen[name] = int(match[1])
                if old > head.size:
                    raise WitnessError(f"it cosigned {old} entries already, now {head.size}")
                status, text = await self._send(client, witness.url, old, head)
        if status != 200:
            raise WitnessError(f"it answered {status}")
        return await asyncio.to_thread(_line_of, witness.key, head, text)

    async def _send(
        self, client: httpx.AsyncClient, url: str, old: int, head: Checkpoint
    ) -> tuple[int, str]:
        log = self.log

        def submission(tx: Connection) -> Submission:
            proof = log.consistency_proof(tx, old, head.size)
            return Submission(old, proof, log.note(tx, head.size) or "")

        body = await asyncio.to_thread(self.database.read, submission)
        answer = bytearray()
        async with client.stream("POST", f"{url}/add-checkpoint", content=body.encode()) as got:
            async for piece in got.aiter_bytes():
                answer += piece
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise WitnessError(f"its answer has more than {_MAX_ANSWER_BYTES} bytes")
        return got.status_code, answer.decode("utf-8", "replace")


def _why(error: Exception) -> str:
    return error.message if isinstance(error, WeightproofError) else type(error).__name__


def _line_of(key: VerifierKey, head: Checkpoint, text: str) -> str:
    """Return the one line of an answer that is a cosignature by `key` of this very head."""
    why = "it answered nothing"
    for line in filter(None, text.split("\n")):
        try:
            key.verify(head.text(), [line])
            return line
        except NoteError as error:
            why = error.message
    raise WitnessError(why)
