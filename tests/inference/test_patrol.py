"""The patrol: every tensor has its turn within half an interval, in an order nobody foretells."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, cast
from weakref import ref

import pytest
import torch

from inference.catalog import Catalog, CatalogEntry
from inference.engine.engine import TextEngine
from inference.errors import ModelStoppedError, UnavailableError
from inference.loader import load
from inference.patrol import BYTES_PER_S, INCIDENT, STRIDE_BYTES, Beat, Lap, Patrol
from inference.payments.pricing import Price
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

PRICE = Price(1, 0, 0)
NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def shelf(chain: Chain, deployment: Deployment, signers: list[Signer]) -> Shelf:
    return Shelf(chain, deployment, signers[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def entry(shelf: Shelf, folder: Path) -> Iterator[CatalogEntry]:
    yield from open_entry(shelf, folder, "tiny")


def open_entry(shelf: Shelf, folder: Path, name: str) -> Iterator[CatalogEntry]:
    with shelf.verified(folder, task="chat") as verified:
        loaded = load(verified, device="cpu", threads=1)
        engine = TextEngine(loaded)
        yield CatalogEntry(name, verified, loaded, engine, PRICE)
        engine.close()


class Log:
    """What was reported; a log that is `broken` takes nothing."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, str]] = []
        self.broken = False

    def __call__(self, *incident: str) -> None:
        if self.broken:
            raise UnavailableError("the database is locked")
        self.entries.append(cast(Any, incident))


def patrol_of(*entries: CatalogEntry, log: Log | None = None, **options: Any) -> Patrol:
    catalog = Catalog()
    for entry in entries:
        catalog.add(entry)
    return Patrol(catalog, log or Log(), options.pop("interval_s", 0.2), **options)


def walk(patrol: Patrol) -> None:
    for beat in patrol.beats():
        patrol.look(beat)


def parameter(entry: CatalogEntry, name: str) -> torch.Tensor:
    module = entry.loaded.module
    return (dict(module.named_parameters()) | dict(module.named_buffers()))[name]


def flip_a_bit(tensor: torch.Tensor, byte: int = 5, bit: int = 3) -> None:
    tensor.detach().view(-1).view(torch.uint8)[byte] ^= 1 << bit


def test_one_flipped_bit_in_any_tensor_is_found_in_one_lap(entry: CatalogEntry) -> None:
    names = entry.loaded.resident.names
    assert "model.rotary_emb.inv_freq" in names
    for number, name in enumerate(names):
        tensor = parameter(entry, name)
        byte = tensor.nbytes * number // len(names)
        flip_a_bit(tensor, byte=byte, bit=number % 8)
        log = Log()
        patrol = patrol_of(entry, log=log)
        walk(patrol)
        assert log.entries == [
            (INCIDENT, entry.model_id, f"tensor {name} changed in memory since it was loaded")
        ]
        assert patrol.catalog.standing(entry).tampered
        flip_a_bit(tensor, byte=byte, bit=number % 8)
    sound = patrol_of(entry)
    walk(sound)
    assert not sound.catalog.stopped(entry)


def test_the_last_bit_of_the_last_tensor_is_found_while_laps_run_by_themselves(
    entry: CatalogEntry,
) -> None:
    last = parameter(entry, "lm_head.weight")
    patrol = patrol_of(entry, interval_s=0.5)

    async def go() -> float:
        walking = asyncio.create_task(patrol.run())
        await asyncio.sleep(0.3)
        flip_a_bit(last, byte=last.nbytes - 1, bit=7)
        flipped_at = patrol.clock()
        while not patrol.catalog.stopped(entry):
            await asyncio.sleep(0.005)
        walking.cancel()
        return patrol.clock() - flipped_at

    assert asyncio.run(go()) < 2  # 0.5 s, and what a busy machine adds


def test_a_parameter_of_a_kind_that_cannot_be_hashed_stops_the_model(entry: CatalogEntry) -> None:
    odd = torch.nn.Parameter(torch.zeros(32, dtype=torch.complex64))
    entry.loaded.module.model.norm.weight = odd
    log = Log()
    walk(patrol_of(entry, log=log))
    assert log.entries[0][2].startswith("tensor model.norm.weight cannot be hashed")


def test_a_tensor_that_was_added_is_found(entry: CatalogEntry) -> None:
    entry.loaded.module.model.register_buffer("extra", torch.zeros(4))
    log = Log()
    walk(patrol_of(entry, log=log))
    assert log.entries[0][2] == "tensor model.extra was not there when the model was loaded"


def test_a_stopped_model_stays_stopped_and_is_reported_once(entry: CatalogEntry) -> None:
    log = Log()
    patrol = patrol_of(entry, log=log)
    flip_a_bit(parameter(entry, NAME))
    beats = patrol.beats()
    for beat in beats + beats:
        patrol.look(beat)
    assert len(log.entries) == 1
    assert not patrol.beats()


def test_an_incident_the_log_could_not_take_is_told_in_the_next_lap(entry: CatalogEntry) -> None:
    log = Log()
    log.broken = True
    patrol = patrol_of(entry, log=log)
    patrol.stop(entry, ModelStoppedError("tensor x changed"))
    assert patrol.catalog.stopped(entry)
    assert not log.entries
    log.broken = False
    patrol.lap()
    assert log.entries == [(INCIDENT, entry.model_id, "tensor x changed")]


def test_a_revoked_model_is_looked_after_while_a_call_is_in_flight(entry: CatalogEntry) -> None:
    patrol = patrol_of(entry)
    lease = patrol.catalog.lease(entry.name)
    patrol.catalog.stop(entry, "revoked")
    flip_a_bit(parameter(entry, NAME))
    walk(patrol)
    with pytest.raises(ModelStoppedError, match=f"tensor {NAME} changed"):
        patrol.catalog.check_sound(entry)
    lease.end()


def test_a_model_that_nobody_uses_any_more_is_left_alone(entry: CatalogEntry) -> None:
    patrol = patrol_of(entry)
    patrol.catalog.stop(entry, "revoked")
    assert not patrol.beats()


def test_a_model_unloaded_during_a_lap_is_neither_held_nor_reported(
    shelf: Shelf, folder: Path
) -> None:
    opened = open_entry(shelf, folder, "gone")
    gone = next(opened)
    log = Log()
    patrol = patrol_of(gone, log=log)
    beats = patrol.beats()
    flip_a_bit(parameter(gone, NAME))
    patrol.catalog.remove("gone")
    for beat in beats:
        patrol.look(beat)
    assert not log.entries
    held = ref(gone)
    opened.close()
    del opened, gone
    gc.collect()
    assert held() is None
    for beat in beats:
        patrol.look(beat)


def test_a_lap_takes_every_tensor_once_and_no_two_laps_are_alike(entry: CatalogEntry) -> None:
    patrol = patrol_of(entry)
    laps = [[beat.tensor for beat in patrol.beats()] for _ in range(5)]
    expected = Counter([*entry.loaded.resident.names, ""])
    assert all(Counter(lap) == expected for lap in laps)
    assert all(before != after for before, after in pairwise(laps))


def test_the_order_is_drawn_by_the_operating_system_unless_a_test_asks(entry: CatalogEntry) -> None:
    one, two = (patrol_of(entry, random=Random(1)) for _ in range(2))
    assert [b.tensor for b in one.beats()] == [b.tensor for b in two.beats()]
    with pytest.raises(NotImplementedError):  # how `SystemRandom` says that it has no state
        patrol_of(entry).random.getstate()


def test_between_two_looks_at_a_tensor_there_is_less_than_an_interval(
    entry: CatalogEntry,
) -> None:
    seen: dict[str, list[float]] = {}

    class Watched(Patrol):
        def look(self, beat: Beat, lap: Lap | None = None) -> None:
            seen.setdefault(beat.tensor, []).append(self.clock())
            super().look(beat, lap)

    catalog = Catalog()
    catalog.add(entry)
    patrol = Watched(catalog, Log(), interval_s=1.0)

    for _ in range(6):
        patrol.lap()
    gaps = [after - before for times in seen.values() for before, after in pairwise(times)]
    assert len(seen) == len(entry.loaded.resident.names) + 1
    # A busy machine may be late, which the patrol says of itself.
    assert max(gaps) < max(1.0, 1.5 * patrol.bound_s)


def test_a_lap_lasts_longer_where_the_bytes_are_too_many(entry: CatalogEntry) -> None:
    resident = entry.loaded.resident
    total = sum(resident.nbytes(name) for name in resident.names)
    patrol = patrol_of(entry, interval_s=0.1, bytes_per_s={"cpu": total * 2})
    patrol.lap()
    assert patrol.bound_s == pytest.approx(1.0, rel=0.3)


def test_what_is_due_is_in_proportion_to_the_bytes(entry: CatalogEntry) -> None:
    beats = {beat.tensor: beat for beat in patrol_of(entry).beats()}
    big, small = beats["lm_head.weight"], beats["model.norm.weight"]
    assert big.cost_s / small.cost_s == pytest.approx(tiny_models.VOCABULARY)
    assert big.cost_s == parameter(entry, "lm_head.weight").nbytes / BYTES_PER_S["cpu"]


def large(shelf: Shelf, folder: Path) -> Iterator[CatalogEntry]:
    """A model of 40 MiB with tensors of 9 MiB: more than a stride each."""
    yield from open_entry(shelf, tiny_models.llama(folder / "large", hidden=1104), "large")


def beat_of(patrol: Patrol, tensor: str) -> Beat:
    return next(beat for beat in patrol.beats() if beat.tensor == tensor)


def test_a_large_tensor_is_hashed_in_strides_spread_over_the_lap(
    shelf: Shelf, tmp_path: Path
) -> None:
    entry = next(opened := large(shelf, tmp_path))
    patrol = patrol_of(entry)
    beat = beat_of(patrol, NAME)
    assert STRIDE_BYTES < beat.nbytes < 2 * STRIDE_BYTES
    begun = patrol.clock()
    patrol.look(beat, Lap(begun, 1 / beat.cost_s))
    # The first stride is hashed at once; the rest is due when its share of the second is over.
    assert STRIDE_BYTES / beat.nbytes <= patrol.clock() - begun < 3
    assert not patrol.catalog.stopped(entry)
    flip_a_bit(parameter(entry, NAME), byte=beat.nbytes - 1)
    patrol.look(beat)
    assert NAME in patrol.catalog.stopped(entry)
    opened.close()


def test_a_model_unloaded_under_the_patrol_is_let_go_within_moments(
    shelf: Shelf, tmp_path: Path
) -> None:
    entry = next(opened := large(shelf, tmp_path))
    patrol = patrol_of(entry)
    beat = beat_of(patrol, NAME)
    lap = Lap(patrol.clock(), 600 / beat.cost_s)
    looking = threading.Thread(target=patrol.look, args=(beat, lap))
    looking.start()
    patrol.catalog.remove("large")
    looking.join(10)
    assert not looking.is_alive()
    assert lap.done_s == beat.cost_s
    opened.close()


def test_a_patrol_that_is_cancelled_ends_within_moments(shelf: Shelf, tmp_path: Path) -> None:
    entry = next(opened := large(shelf, tmp_path))
    patrol = patrol_of(entry, interval_s=600)

    async def go() -> None:
        walking = asyncio.create_task(patrol.run())
        await asyncio.sleep(0.5)
        walking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walking

    started = patrol.clock()
    asyncio.run(go())
    assert patrol.clock() - started < 5
    opened.close()


def test_a_lap_that_does_not_end_is_told(entry: CatalogEntry) -> None:
    times = iter([0.0, 100.0])
    patrol = patrol_of(entry, clock=lambda: next(times, 100.0))
    patrol.lap()
    assert patrol.bound_s >= 200


def test_with_nothing_on_sale_a_lap_is_a_pause() -> None:
    patrol = patrol_of(interval_s=0.1)
    patrol.lap()
    assert patrol.bound_s >= 0.1
