"""Traces: one OpenTelemetry span a call, in the words of its GenAI conventions.

A span is made when its call has ended, from figures alone: no prompt, answer, payer or key is in
it. It begins a trace of its own, since a caller's `traceparent` is a stranger's word. Spans are
sent by a thread of the SDK; a collector that does not answer costs spans, never a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from inference.call_facts import UNPAID, CallFacts
from inference.receipt_format import Receipt

# Seconds to send a batch, tries again included, and for closing to send what is left.
_TIMEOUT_S: Final = 5.0
_CLOSE_S: Final = 3.0
_PERIOD_MS: Final = 2_000
_SERVED: Final = ("ok", "partial")


class Traces:
    """Tells a tracer of the calls of the node at `url`."""

    def __init__(
        self, tracer: Tracer, url: str, close: Callable[[], object] = lambda: None
    ) -> None:
        parts = urlsplit(url)
        self._tracer: Final = tracer
        self._close: Final = close
        self._server: Final[dict[str, AttributeValue]] = {
            server_attributes.SERVER_ADDRESS: parts.hostname or "",
            server_attributes.SERVER_PORT: parts.port or (443 if parts.scheme == "https" else 80),
        }

    @classmethod
    def to(cls, endpoint: str, url: str) -> Traces:
        """Send spans to an OTLP/HTTP address."""
        # Where traces are off nothing of this is even imported.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        # One line for each batch that is given up says enough about a collector that is away.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        resource = Resource(
            {"service.name": "weightproof", "service.version": version("weightproof")}
        )
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint, timeout=_TIMEOUT_S)
        batches = BatchSpanProcessor(exporter, schedule_delay_millis=_PERIOD_MS)
        provider.add_span_processor(batches)
        tracer = provider.get_tracer("weightproof", version("weightproof"))
        return cls(tracer, url, lambda: _bounded(batches.shutdown))

    def ended(self, facts: CallFacts) -> None:
        """Make the span of a call; whoever only asked for the price gets none."""
        if facts.status == UNPAID:
            return
        span = self._tracer.start_span(
            f"{facts.operation} {facts.model}".strip(),
            kind=SpanKind.SERVER,
            attributes=self._server
            | _call(facts)
            | (_told(facts.receipt) if facts.receipt else {}),
            start_time=facts.started_ns,
        )
        if facts.paid_s is not None:
            span.add_event("weightproof.paid", timestamp=_after(facts, facts.paid_s))
        if facts.first_token_s is not None:
            span.add_event("weightproof.first_token", timestamp=_after(facts, facts.first_token_s))
        if facts.status not in _SERVED:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_after(facts, facts.duration_s))

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._close()


def _bounded(shutdown: Callable[[], object]) -> None:
    """Wait for the SDK to end, but not for as long as a silent collector would have it."""
    thread = Thread(target=shutdown, name="traces-end", daemon=True)
    thread.start()
    thread.join(_CLOSE_S)


def _call(facts: CallFacts) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {
        gen_ai.GEN_AI_OPERATION_NAME: facts.operation,
        gen_ai.GEN_AI_PROVIDER_NAME: "weightproof",
        "weightproof.status": facts.status,
    }
    if facts.model:
        told[gen_ai.GEN_AI_REQUEST_MODEL] = facts.model
    if facts.streamed:
        told[gen_ai.GEN_AI_REQUEST_STREAM] = True
    if facts.first_token_s is not None:
        told[gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = facts.first_token_s
    if facts.code or facts.status not in _SERVED:
        told[error_attributes.ERROR_TYPE] = facts.code or facts.status
    return told


def _told(receipt: Receipt) -> dict[str, AttributeValue]:
    """Return what a receipt says of its call, but for who paid."""
    sampling = receipt.sampling
    told: dict[str, AttributeValue] = {
        gen_ai.GEN_AI_RESPONSE_MODEL: receipt.model.name,
        gen_ai.GEN_AI_RESPONSE_ID: receipt.id,
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: receipt.tokens.input,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: receipt.tokens.output,
        "weightproof.model_id": "0x" + receipt.model.model_id.hex(),
        "weightproof.receipt.id": receipt.id,
        "weightproof.receipt.seq": receipt.seq,
        # Text: an amount may need more than the 64 bits a span's integers have.
        "weightproof.charged": str(receipt.payment.charged),
        "weightproof.scheme": receipt.payment.scheme,
    }
    if receipt.response.finish != "none":
        told[gen_ai.GEN_AI_RESPONSE_FINISH_REASONS] = (receipt.response.finish,)
    if sampling.max_tokens:  # where tokens were drawn
        told |= {
            gen_ai.GEN_AI_REQUEST_MAX_TOKENS: sampling.max_tokens,
            gen_ai.GEN_AI_REQUEST_TEMPERATURE: float(sampling.temperature),
            gen_ai.GEN_AI_REQUEST_TOP_P: float(sampling.top_p),
            gen_ai.GEN_AI_REQUEST_SEED: sampling.seed,
        }
        if sampling.top_k:
            told[gen_ai.GEN_AI_REQUEST_TOP_K] = float(sampling.top_k)
    return told


def _after(facts: CallFacts, seconds: float) -> int:
    return facts.started_ns + int(seconds * 1e9)
