"""Metrics that are read when they are asked for: engines, memory, chain, log, channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from inference.catalog import Catalog, CatalogEntry
from inference.database import Database
from inference.errors import NodeError
from inference.metrics import label
from inference.payments import books

# Of EngineStats: what is now, and what only grows.
_NOW: Final = {
    "waiting": ("weightproof_engine_waiting", "Calls that wait for a place in the batch."),
    "running": ("weightproof_engine_running", "Calls in the batch."),
    "cache_bytes": ("weightproof_engine_cache_bytes", "Cache in use."),
    "cache_capacity": ("weightproof_engine_cache_capacity_bytes", "Cache there is; 0: unlimited."),
}
_SO_FAR: Final = {
    "finished": ("weightproof_engine_finished", "Generations that ended."),
    "failed": ("weightproof_engine_failed", "Generations that failed."),
    "input_tokens": ("weightproof_engine_input_tokens", "Prompt tokens taken in."),
    "cached_tokens": ("weightproof_engine_cached_tokens", "Of them, from the prefix cache."),
    "output_tokens": ("weightproof_engine_output_tokens", "Tokens made."),
    "steps": ("weightproof_engine_steps", "Steps of the batch."),
    "batch_tokens": ("weightproof_engine_batch_tokens", "Tokens computed in all steps."),
}


@dataclass(frozen=True, eq=False)
class Gauges(Collector):
    """Reads a node when its metrics are asked for. `health` is what /healthz answers."""

    catalog: Catalog
    database: Database
    health: Callable[[], Mapping[str, object]]

    def collect(self) -> Iterator[Metric]:
        """Yield every family; those of the database are left out while it does not answer."""
        entries = list(self.catalog)
        yield from self._engines(entries)
        yield from self._models(entries)
        with suppress(NodeError):
            yield from _node(self.health())
        with suppress(NodeError):
            channels, in_flight = self.database.read(books.counts)
            yield GaugeMetricFamily("weightproof_channels", "Payment channels known.", channels)
            yield GaugeMetricFamily(
                "weightproof_channel_calls", "Calls in flight on channels.", in_flight
            )

    def _engines(self, entries: list[CatalogEntry]) -> Iterator[Metric]:
        stats = {entry.name: entry.engine.stats() for entry in entries}
        for field, (name, about) in (_NOW | _SO_FAR).items():
            kind = GaugeMetricFamily if field in _NOW else CounterMetricFamily
            family = kind(name, about, labels=["model"])
            for model, now in stats.items():
                family.add_metric([label(model)], getattr(now, field))
            yield family

    def _models(self, entries: list[CatalogEntry]) -> Iterator[Metric]:
        on_sale = GaugeMetricFamily(
            "weightproof_model_on_sale", "1, or 0 for a model that was stopped.", labels=["model"]
        )
        memory = GaugeMetricFamily(
            "weightproof_model_memory_bytes", "What a model takes.", labels=["model"]
        )
        calls = GaugeMetricFamily(
            "weightproof_model_calls", "Calls in flight of a model.", labels=["model"]
        )
        for entry in entries:
            standing, labels = self.catalog.standing(entry), [label(entry.name)]
            on_sale.add_metric(labels, not standing.stopped)
            memory.add_metric(labels, entry.memory)
            calls.add_metric(labels, standing.leases)
        yield from (on_sale, memory, calls)


def _node(health: Mapping[str, object]) -> Iterator[Metric]:
    block = health["block"]
    facts = {
        "weightproof_selling": ("1, or 0 while /healthz is not ok.", health["status"] == "ok"),
        "weightproof_settle_failing": ("1 after a settlement failed.", health["settle_error"]),
        "weightproof_chain_silent_seconds": ("Since the chain answered.", health["chain_silent_s"]),
        "weightproof_chain_block": (
            "Newest final block at which all models were found to stand.",
            block["number"] if isinstance(block, Mapping) else 0,
        ),
        "weightproof_log_entries": ("Entries of the audit log.", health["log_size"]),
        "weightproof_up_seconds": ("Since the node was opened.", health["up_s"]),
    }
    for name, (about, value) in facts.items():
        number = value if isinstance(value, int | float) else bool(value)
        yield GaugeMetricFamily(name, about, float(number))
