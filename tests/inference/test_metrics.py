"""Metrics: what they count, whose names become labels, and that they always parse."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from inference.catalog import Catalog
from inference.engine.facts import EngineStats
from inference.errors import UnavailableError
from inference.gauges import Gauges
from inference.metrics import Metrics
from tests.inference import receipt_samples
from tests.inference.call_samples import MODEL, ended, receipt, refused
from tests.inference.test_catalog import entry

HOSTILE = ['a "quoted" one', "back\\slash\\n", "line\nbreak", "} 1 {", "# HELP x", "über", "\u202e"]


def families(metrics: Metrics) -> list[Any]:
    return list(text_string_to_metric_families(metrics.render("")[0].decode()))


def samples(metrics: Metrics) -> dict[str, float]:
    """Return the values of all samples by name, their labels summed up."""
    found: dict[str, float] = defaultdict(float)
    for family in families(metrics):
        for sample in family.samples:
            found[sample.name] += sample.value
    return found


def labelled(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Return a sample's values by its labels, in the order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families(metrics)
        for sample in family.samples
        if sample.name == name
    }


def test_a_caller_of_an_unknown_model_makes_no_label() -> None:
    metrics = Metrics()
    for status in ("refused", "refused", "unavailable"):
        metrics.ended(refused(status))
    assert labelled(metrics, "weightproof_calls_total") == {
        ("", "none", "refused"): 2,
        ("", "none", "unavailable"): 1,
    }
    assert labelled(metrics, "weightproof_call_seconds_count") == {}


@pytest.mark.parametrize("name", [*HOSTILE, "half \ud800 a pair"])
@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_a_hostile_name_of_a_model_is_one_label(name: str, accept: str) -> None:
    metrics = Metrics()
    metrics.ended(ended(model=name))
    read = openmetrics.text_string_to_metric_families if accept else text_string_to_metric_families
    text = metrics.render(accept)[0].decode()
    named = {
        sample.labels["model"]
        for family in read(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if "model" in sample.labels
    }
    assert named == {name.replace("\ud800", "\\ud800")}


def test_charges_and_tokens_are_those_of_receipts() -> None:
    metrics = Metrics()
    metrics.ended(ended())
    metrics.ended(ended(receipt=receipt(charged=2**60)))
    failed = replace(receipt(charged=0), status="failed")
    metrics.ended(ended(status="failed", receipt=failed))
    asset = receipt_samples.ASSET
    assert labelled(metrics, "weightproof_charged_atoms_total") == {
        (asset, MODEL): float(2**60 + receipt_samples.COST)
    }
    assert labelled(metrics, "weightproof_input_tokens_total") == {(MODEL,): 12}
    assert labelled(metrics, "weightproof_calls_total") == {
        (MODEL, "batch-settlement", "ok"): 2,
        (MODEL, "batch-settlement", "failed"): 1,
    }


def test_two_nodes_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.ended(ended())
    assert labelled(other, "weightproof_calls_total") == {}


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", ";;,=", "application/openmetrics-text-not", "text/plain;version=1.0.0;escaping=x"],
)
def test_whoever_asks_for_nothing_better_gets_the_text_format(accept: str) -> None:
    assert Metrics().render(accept)[1] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("version", ["1.0.0", "9", "x.y", "1.0.0\r\nX: y"])
def test_openmetrics_is_of_the_version_that_was_written_whatever_is_asked_for(version: str) -> None:
    text, kind = Metrics().render(f"application/openmetrics-text;version={version}, text/plain")
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith(b"# EOF\n")


def test_engines_are_asked_when_metrics_are() -> None:
    catalog, metrics = Catalog(), Metrics()
    stats = EngineStats(
        waiting=1,
        running=2,
        finished=3,
        output_tokens=4,
        cache_bytes=5,
        failed=6,
        input_tokens=7,
        cached_tokens=8,
        steps=9,
        batch_tokens=10,
        cache_capacity=11,
    )
    asked: Any = SimpleNamespace(stats=lambda: stats)
    catalog.add(replace(entry("counts"), engine=asked, memory=12))
    idle: Any = SimpleNamespace(stats=lambda: EngineStats(0, 0, 0, 0, 0))
    catalog.add(replace(entry("stopped", 2), engine=idle))
    catalog.stop("stopped", "revoked")
    metrics.add(gauges(catalog))
    for name, value in {
        "engine_waiting": 1,
        "engine_running": 2,
        "engine_finished_total": 3,
        "engine_output_tokens_total": 4,
        "engine_cache_bytes": 5,
        "engine_failed_total": 6,
        "engine_input_tokens_total": 7,
        "engine_cached_tokens_total": 8,
        "engine_steps_total": 9,
        "engine_batch_tokens_total": 10,
        "engine_cache_capacity_bytes": 11,
    }.items():
        assert labelled(metrics, f"weightproof_{name}") == {("counts",): value, ("stopped",): 0}
    assert labelled(metrics, "weightproof_model_on_sale") == {("counts",): 1, ("stopped",): 0}
    assert labelled(metrics, "weightproof_model_memory_bytes")["counts",] == 12
    catalog.clear()
    assert labelled(metrics, "weightproof_engine_running") == {}


def test_a_database_that_does_not_answer_hides_only_what_it_knows() -> None:
    def fail(*_: object) -> Any:
        raise UnavailableError("busy")

    catalog, metrics = Catalog(), Metrics()
    idle: Any = SimpleNamespace(stats=lambda: EngineStats(0, 0, 0, 0, 0))
    catalog.add(replace(entry("one"), engine=idle))
    metrics.add(gauges(catalog, health=fail, read=fail))
    found = samples(metrics)
    assert found["weightproof_model_on_sale"] == 1
    assert "weightproof_channels" not in found
    assert "weightproof_selling" not in found


def test_the_node_tells_of_chain_log_and_channels() -> None:
    metrics = Metrics()
    metrics.add(gauges(Catalog()))
    found = samples(metrics)
    assert found["weightproof_selling"] == 1
    assert found["weightproof_settle_failing"] == 1
    assert found["weightproof_chain_block"] == 12
    assert found["weightproof_log_entries"] == 7
    assert (found["weightproof_channels"], found["weightproof_channel_calls"]) == (3, 2)


def gauges(catalog: Catalog, health: Any = None, read: Any = None) -> Gauges:
    facts = {
        "status": "ok",
        "settle_error": "the chain stopped answer",
        "chain_silent_s": 1,
        "block": {"number": 12},
        "log_size": 7,
        "up_s": 60,
    }
    database: Any = SimpleNamespace(read=read or (lambda _: (3, 2)))
    return Gauges(catalog, database, health or (lambda: facts))
