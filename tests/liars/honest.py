"""The parts of a node that a lie may replace; here all of them are honest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from inference.engine.facts import EngineFacts, EngineStats
from inference.engine.generator import Generator
from inference.engine.sequence import Delta, GenerationRequest
from inference.office import Office
from inference.receipt_format import Receipt, ReceiptFacts
from inference.receipts import SignedReceipt, issue, salted_hash
from inference.sale import Till
from inference.settlement import Settlement
from inference.statements import Statement, Statements
from inference.watcher import Watcher
from tests.liars.wire import WireAnswer

if TYPE_CHECKING:
    from tests.liars.actor import Actor
    from tests.liars.stage import Stage


class Honest:
    """Each method gets the honest part and returns what the node works with instead."""

    def office(self, honest: Office) -> Office:
        return honest

    def engine(self, honest: Any, stage: Stage) -> Any:
        return honest

    def statements(self, honest: Statements) -> Statements:
        return honest

    def till(self, honest: Till) -> Till:
        return honest

    def watcher(self, honest: Watcher) -> Watcher:
        return honest

    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        """Return what leaves instead of an answer; the liar has the node's key at hand."""
        return answer


class Engine:
    """Passes everything on to an honest engine; a lie overrides one method."""

    def __init__(self, honest: Generator) -> None:
        self.honest = honest

    @property
    def facts(self) -> EngineFacts:
        return self.honest.facts

    def facts_for(self, *, exact: bool) -> EngineFacts:
        return self.honest.facts_for(exact=exact)

    def check_length(self, input_tokens: int, max_output_tokens: int) -> None:
        self.honest.check_length(input_tokens, max_output_tokens)

    def check_exact(self) -> None:
        self.honest.check_exact()

    def submit(self, request: GenerationRequest) -> str:
        return self.honest.submit(request)

    def stream(self, id: str) -> AsyncIterator[Delta]:
        return self.honest.stream(id)

    def cancel(self, id: str) -> None:
        self.honest.cancel(id)

    def stats(self) -> EngineStats:
        return self.honest.stats()

    def close(self) -> None:
        self.honest.close()


class Teller(Honest):
    """Honest but for its receipts: it signs what `say` makes of the facts of each call."""

    def say(self, honest: Receipt) -> Receipt:
        return honest

    def statements(self, honest: Statements) -> Statements:
        return _Told(honest.signer, honest.domain, self.say)


@dataclass(frozen=True)
class _Told(Statements):
    say: Callable[[Receipt], Receipt]

    def about(self, *args: Any, **more: Any) -> Statement:
        honest = super().about(*args, **more)
        said, before = self.say(honest.receipt.receipt), honest.receipt
        return telling(honest, signed_again(self.signer, self.domain, said, before))


def telling(honest: Statement, receipt: SignedReceipt) -> Statement:
    """Return what is told of a call with another receipt in the place of the honest one."""
    extensions = {**honest.extensions, "weightproof": receipt.bundle_text()}
    return replace(honest, receipt=receipt, extensions=extensions)


def signed_again(
    signer: Any, domain: Any, receipt: Receipt, honest: SignedReceipt
) -> SignedReceipt:
    """Sign another receipt for the place of an honest one."""
    facts = ReceiptFacts(**{f.name: getattr(receipt, f.name) for f in fields(ReceiptFacts)})
    return issue(signer, domain, facts, seq=receipt.seq, prev=receipt.prev, salts=honest.salts)


def signed_for(actor: Actor, bundle: Any, response: bytes) -> Any:
    """Return a receipt's bundle, signed anew for another response."""
    honest = SignedReceipt.from_json(bundle)
    assert honest.salts is not None
    hashed = salted_hash(honest.salts.response, response)
    receipt = replace(honest.receipt, response=replace(honest.receipt.response, hash=hashed))
    return signed_again(actor.node.signer, actor.identity.domain, receipt, honest).bundle()


def settling(office: Office, kind: type[Settlement]) -> Office:
    """Return an office whose settlement is of a kind of the liar's own."""
    honest = office.settlement
    return replace(
        office, settlement=kind(**{f.name: getattr(honest, f.name) for f in fields(Settlement)})
    )
