"""Spans of calls, in the words of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from inference.call_facts import CallFacts
from inference.tracing import Traces
from tests.fakes.trace_collector import collecting
from tests.inference import receipt_samples
from tests.inference.call_samples import STARTED_NS, ended, receipt, refused

URL = "https://node.test:8443"


def span(facts: CallFacts) -> Any:
    """Return the one span that was made of a call."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Traces(provider.get_tracer("test"), URL).ended(facts)
    (made,) = exporter.get_finished_spans()
    return made


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = "import sys, inference.node; sys.exit(any('opentelemetry' in m for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_whoever_only_asks_for_the_price_makes_no_span() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        span(refused("unpaid"))


def test_a_collector_that_is_away_costs_no_call_and_little_at_the_end() -> None:
    traces = Traces.to("http://127.0.0.1:9/v1/traces", URL)
    begun = time.monotonic()
    for _ in range(100):
        traces.ended(ended())
    assert time.monotonic() - begun < 1
    traces.close()
    assert time.monotonic() - begun < 10


def test_a_call_that_was_refused_is_an_error_with_its_code() -> None:
    made = span(refused())
    assert made.name == "chat"
    assert made.status.status_code is StatusCode.ERROR
    assert made.attributes["error.type"] == "model_not_found"
    assert "gen_ai.request.model" not in made.attributes


def test_a_call_is_told_in_the_words_of_the_conventions() -> None:
    made = span(ended())
    assert (made.name, made.kind) == ("chat smollm2", SpanKind.SERVER)
    assert (made.start_time, made.end_time) == (STARTED_NS, STARTED_NS + 1_500_000_000)
    assert dict(made.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "weightproof",
        "gen_ai.request.model": "smollm2",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 8,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 7,
        "gen_ai.response.model": "smollm2",
        "gen_ai.response.id": "rcpt_0123456789abcdef",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.75,
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": 2,
        "server.address": "node.test",
        "server.port": 8443,
        "weightproof.status": "ok",
        "weightproof.model_id": "0x" + "01" * 32,
        "weightproof.receipt.id": "rcpt_0123456789abcdef",
        "weightproof.receipt.seq": 3,
        "weightproof.charged": "128",
        "weightproof.scheme": "batch-settlement",
    }
    assert [(event.name, event.timestamp - STARTED_NS) for event in made.events] == [
        ("weightproof.paid", 500_000_000),
        ("weightproof.first_token", 750_000_000),
    ]
    assert made.status.status_code is StatusCode.UNSET
    assert receipt_samples.PAYER.address.lower() not in made.to_json().lower()


def test_a_classification_draws_no_tokens_and_says_nothing_of_them() -> None:
    plain = receipt()
    sampling = replace(plain.sampling, max_tokens=0)
    response = replace(plain.response, finish="none")
    told = replace(plain, sampling=sampling, response=response)
    made = span(ended(path="/v1/classify", receipt=told, streamed=False, first_token_s=None))
    assert made.name == "classify smollm2"
    assert not [name for name in made.attributes if "temperature" in name or "finish" in name]


def test_spans_arrive_at_a_collector() -> None:
    with collecting() as collector:
        traces = Traces.to(f"{collector.url}/v1/traces", URL)
        traces.ended(ended())
        traces.close()
        assert [made.name for made in collector.spans()] == ["chat smollm2"]
