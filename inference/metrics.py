"""Metrics of the calls a node answers, in Prometheus' text format.

Labels are bounded: a model's name is the catalog's, a status one of seven, a scheme one of three;
nothing a caller writes becomes a label. Amounts are in atomic units, as doubles: exact to 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from inference.call_facts import CallFacts

# Seconds, from a small model on a GPU to a long prompt on a CPU.
_FIRST: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_NEXT: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)
_CALL: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_OPEN: Final = "application/openmetrics-text"


@dataclass(frozen=True)
class Meters:
    """The meters of one model, found once: finding one takes longer than moving it."""

    first_token: Histogram
    next_token: Histogram
    mean_token: Histogram
    call: Histogram
    input_tokens: Counter
    output_tokens: Counter


class Metrics:
    """The metrics of one node, in a registry of their own."""

    def __init__(self) -> None:
        self._registry: Final = CollectorRegistry()
        self._calls: Final = self._counter(
            "weightproof_calls", "Calls that ended.", "model", "status", "scheme"
        )
        self._charged: Final = self._counter(
            "weightproof_charged_atoms", "Charged, in atomic units of the asset.", "model", "asset"
        )
        self._input: Final = self._counter(
            "weightproof_input_tokens", "Tokens read for calls with a receipt.", "model"
        )
        self._output: Final = self._counter(
            "weightproof_output_tokens",
            "Tokens delivered, those of streams as they leave.",
            "model",
        )
        self._first: Final = self._histogram(
            "weightproof_time_to_first_token_seconds",
            "From a secured payment to the first token of a stream.",
            _FIRST,
            "model",
        )
        self._next: Final = self._histogram(
            "weightproof_inter_token_seconds",
            "Between two tokens of a stream; not streamed: a call's time over its tokens.",
            _NEXT,
            "model",
            "streamed",
        )
        self._call: Final = self._histogram(
            "weightproof_call_seconds",
            "Of a call with a receipt, from first to last.",
            _CALL,
            "model",
        )
        self._meters: Final[dict[str, Meters]] = {}
        # One for each that occurs, found once; their labels are bounded, and so are these.
        self._ended: Final[dict[tuple[str, str, str], Counter]] = {}
        self._atoms: Final[dict[tuple[str, str], Counter]] = {}

    def add(self, collector: Collector) -> None:
        """Show also what `collector` reads when it is asked."""
        self._registry.register(collector)

    def gauge(self, name: str, about: str) -> Gauge:
        """Return a new gauge without labels."""
        return Gauge(name, about, registry=self._registry)

    def of(self, model: str) -> Meters:
        """Return the meters of a model of the catalog."""
        meters = self._meters.get(model)
        if meters is None:
            name = label(model)
            meters = self._meters[model] = Meters(
                first_token=self._first.labels(name),
                next_token=self._next.labels(name, "true"),
                mean_token=self._next.labels(name, "false"),
                call=self._call.labels(name),
                input_tokens=self._input.labels(name),
                output_tokens=self._output.labels(name),
            )
        return meters

    def ended(self, facts: CallFacts) -> None:
        """Count a call that ended; its output tokens are counted as they leave."""
        kind = (facts.model, facts.status, facts.scheme)
        ended = self._ended.get(kind)
        if ended is None:
            ended = self._ended[kind] = self._calls.labels(label(facts.model), *kind[1:])
        ended.inc()
        if facts.receipt is None:
            return
        meters, tokens = self.of(facts.model), facts.receipt.tokens
        meters.call.observe(facts.duration_s)
        meters.input_tokens.inc(tokens.input)
        if tokens.output and not facts.streamed and facts.paid_s is not None:
            meters.mean_token.observe((facts.duration_s - facts.paid_s) / tokens.output)
        payment = facts.receipt.payment
        if payment.charged:
            of = (facts.model, payment.asset)
            atoms = self._atoms.get(of)
            if atoms is None:
                atoms = self._atoms[of] = self._charged.labels(label(facts.model), payment.asset)
            atoms.inc(payment.charged)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics if an Accept header names it.

        The library's own choice answers with whatever version a header asks for.
        """
        if _OPEN in (part.partition(";")[0].strip() for part in accept.split(",")):
            text = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self._registry)

    def _histogram(
        self, name: str, about: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, about, labels, buckets=buckets, registry=self._registry)


def label(name: str) -> str:
    """Return a model's name as a label: what is no valid Unicode is written out."""
    return name.encode("utf-8", "backslashreplace").decode()
