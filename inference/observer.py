"""The observer: is told of each call by the story of a paid call, and tells metrics, log, traces.

It watches and never takes part: whatever goes wrong here, the call goes on, and nothing that is
told holds a prompt, an answer, a payer or a key.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from inference.call import Answer, Call, Stream
from inference.call_facts import ERROR, REFUSED, UNAVAILABLE, UNPAID, CallFacts
from inference.catalog import CatalogEntry
from inference.config import NodeConfig
from inference.errors import NodeError
from inference.journal import Journal
from inference.metrics import Meters, Metrics
from inference.receipt_format import Receipt
from inference.statements import Statement
from inference.work import Work
from registry.errors import ChainError

_log: Final = logging.getLogger(__name__)


class Listener(Protocol):
    """Hears of calls that ended. It must return at once."""

    def ended(self, facts: CallFacts) -> None:
        """Take note of a call."""

    def close(self) -> None:
        """Finish what was noted."""


@dataclass(frozen=True)
class Observer:
    """Watches calls; `metrics` is None where the settings say so. `clock` is in seconds."""

    metrics: Metrics | None = None
    listeners: tuple[Listener, ...] = ()
    clock: Callable[[], float] = time.perf_counter

    @classmethod
    def open(cls, config: NodeConfig) -> Observer:
        """Return what the settings ask for. Raises `ConfigError` for a log that is not writable."""
        metrics = Metrics() if config.observer.metrics else None
        listeners: list[Listener] = []
        if config.observer.call_log:
            listeners.append(journal := Journal(config.observer.call_log))
            if metrics is not None:
                dropped = metrics.gauge("weightproof_call_log_dropped", "Lines never written.")
                dropped.set_function(lambda: journal.dropped)
        if config.observer.trace_endpoint:
            # Where traces are off nothing of OpenTelemetry is imported.
            from inference.tracing import Traces

            listeners.append(Traces.to(config.observer.trace_endpoint, config.public_url))
        return cls(metrics, tuple(listeners))

    def begin(self, call: Call) -> Observation:
        """Begin to watch a call; used with `with` around it."""
        return Observation(self, call)

    def tell(self, facts: CallFacts) -> None:
        """Tell everybody of a call that ended."""
        told = () if self.metrics is None else (self.metrics.ended,)
        for tell in (*told, *(listener.ended for listener in self.listeners)):
            try:
                tell(facts)
            except Exception:  # the door between a call and those who watch it: money passes here
                _log.exception("a call could not be noted")

    def close(self) -> None:
        """Finish what was noted."""
        for listener in self.listeners:
            listener.close()


@dataclass
class Observation:
    """One call under way, as the story tells it. It ends once: what is told later is not heard.

    A stream lives on after its `with` block, until `recorded` or `end`.
    """

    observer: Observer
    call: Call
    _started_ns: int = field(default_factory=time.time_ns)
    _model: str = ""
    _work: Work | None = None
    _meters: Meters | None = None
    _paid_at: float | None = None
    _first_at: float | None = None
    _last_at: float = 0.0
    _tokens: int = 0
    _code: str = ""
    _ended: bool = False

    def __post_init__(self) -> None:
        self._begun_at = self.observer.clock()

    def found(self, entry: CatalogEntry) -> None:
        """Note which model is to answer."""
        self._model = entry.name

    def paid(self, work: Work) -> None:
        """Note that the payment for `work` is secured."""
        self._work, self._paid_at = work, self.observer.clock()
        if self.observer.metrics is not None:
            self._meters = self.observer.metrics.of(self._model)

    def piece(self) -> None:
        """Note that a piece of a stream leaves; one without new tokens is no step of it."""
        made = self._work.usage.output_tokens if self._work else 0
        if made <= self._tokens:
            return
        now, fresh = self.observer.clock(), made - self._tokens
        if self._first_at is None:
            self._first_at = now
            if self._meters is not None and self._paid_at is not None:
                self._meters.first_token.observe(now - self._paid_at)
        elif self._meters is not None:
            self._meters.next_token.observe((now - self._last_at) / fresh)
        if self._meters is not None:
            self._meters.output_tokens.inc(fresh)
        self._last_at, self._tokens = now, made

    def failed(self, failure: NodeError) -> None:
        """Note why the call failed, before its receipt is written."""
        self._code = failure.code

    def recorded(self, statement: Statement) -> None:
        """Note that charge, receipt and log entry are written: the call has ended."""
        receipt = statement.receipt.receipt
        if self._meters is not None and not self._ended:
            # What was not counted as it left: all of an answer in one piece, what a stream held.
            self._meters.output_tokens.inc(max(0, receipt.tokens.output - self._tokens))
        self._end(receipt.status, self._code, receipt)

    def answered(self, answer: Answer | Stream) -> None:
        """Note what is answered; it is news only if no receipt was written of it."""
        if isinstance(answer, Answer) and answer.failure is not None:
            unpaid = answer.failure.code == "payment_required"
            self._end(UNPAID if unpaid else _status(answer.failure), answer.failure.code)

    def end(self) -> None:
        """Note that nothing more will be told; a call that was not recorded by now is an error."""
        self._end(ERROR, self._code)

    def _end(self, status: str, code: str, receipt: Receipt | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        facts = CallFacts(
            model=self._model,
            path=self.call.path,
            status=status,
            code=code,
            streamed=self._first_at is not None,
            started_ns=self._started_ns,
            paid_s=self._since(self._paid_at),
            first_token_s=self._since(self._first_at),
            duration_s=self.observer.clock() - self._begun_at,
            receipt=receipt,
        )
        self.observer.tell(facts)

    def _since(self, moment: float | None) -> float | None:
        return None if moment is None else moment - self._begun_at

    def __enter__(self) -> Observation:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._end(_status(error), error.code if isinstance(error, NodeError) else "")


def _status(error: BaseException) -> str:
    """Return how a call ended that no receipt speaks of."""
    if isinstance(error, ChainError):
        return UNAVAILABLE
    if not isinstance(error, NodeError):
        return ERROR
    if error.status == 503:
        return UNAVAILABLE
    return REFUSED if error.status < 500 else ERROR
