"""The stock on a real chain: memory, room for a new model, failures, and the node's end."""

from __future__ import annotations

import asyncio
import gc
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from inference.config import ModelConfig
from inference.engine.engine import TextEngine
from inference.engine.generator import Generator
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.errors import LoadRefusedError, ModelUnknownError, UnavailableError
from inference.memory_budget import MemoryExceededError
from inference.office import Office
from inference.payments.pricing import Price
from inference.stock import Stock
from registry.errors import ConfigError, RecordUnknownError, WeightproofError
from tests.e2e.shop import Shop, opened
from tests.inference import tiny_models

PRICE = Price(100, 0, 0)
MIB = 1024 * 1024
# Opens a stock of its own, with settings changed.
Open = Callable[..., Stock]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def models(shop: Shop) -> dict[str, ModelConfig]:
    """Three small models; `large` takes four times the cache of the others."""
    folder = shop.config.parent
    contexts = {"first": 256, "second": 512, "large": 2048}
    return {
        name: ModelConfig(
            name,
            shop.publish(tiny_models.llama(folder / name, context=context)),
            None,
            PRICE,
        )
        for name, context in contexts.items()
    }


@pytest.fixture
def open_stock(shop: Shop) -> Iterator[Open]:
    stocks = []

    def open_stock(**settings: Any) -> Stock:
        office: Office = replace(shop.node.office, config=replace(shop.node.config, **settings))
        stocks.append(Stock(office))
        return stocks[-1]

    yield open_stock
    for stock in stocks:
        stock.close()


def sold(stock: Stock) -> list[str]:
    return [entry.name for entry in stock.catalog]


def size(stock: Stock, model: ModelConfig) -> int:
    """Load a model, and return what it takes."""
    memory = stock.load(model).memory
    stock.unload(model.name)
    stock.settle()
    return memory


# What is refused


def test_what_never_fits_is_refused_before_a_file_is_read(
    shop: Shop, open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    stock = open_stock(memory_budget_bytes=1000)
    before = shop.gate.asked
    with pytest.raises(MemoryExceededError, match=r"needs \d+ bytes.* of the 1000 .* 0 are used"):
        stock.load(models["first"])
    # The manifest alone was read.
    assert shop.gate.asked == before + 1
    assert stock.catalog.held() == ()


def test_a_cache_that_does_not_fit_is_refused_before_the_weights_are_loaded(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    needed = size(open_stock(), models["large"])
    stock = open_stock(memory_budget_bytes=needed - 1)
    steps: list[str] = []

    def progress(label: str, _total: int) -> Callable[[int], None]:
        steps.append(label)
        return lambda _: None

    with pytest.raises(MemoryExceededError, match=f"needs {needed} bytes"):
        stock.load(models["large"], progress)
    assert steps == ["verifying large"]
    fits = open_stock(memory_budget_bytes=needed)
    assert fits.load(models["large"]).memory == needed == fits.used()


def test_a_full_node_refuses_and_changes_nothing(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    stock = open_stock(memory_budget_bytes=size(open_stock(), models["large"]))
    stock.load(models["first"])
    with pytest.raises(MemoryExceededError) as refusal:
        stock.load(models["large"])
    assert "models unload" in refusal.value.hint
    assert sold(stock) == ["first"]
    assert stock.failure is not None
    assert stock.failure.name == "large"


def test_a_swap_needs_room_for_both_and_never_evicts_what_it_replaces(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    needed = size(open_stock(), models["large"])
    stock = open_stock(memory_budget_bytes=needed, unload_when_full=True)
    stock.load(replace(models["first"], name="large"))
    with pytest.raises(MemoryExceededError):
        stock.load(models["large"])
    assert stock.catalog.get("large").verified.model_id == models["first"].model_id


def test_what_cannot_be_loaded_leaves_no_memory_behind(
    shop: Shop, open_stock: Open, models: dict[str, ModelConfig], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shop.config.parent / "first", tmp_path / "first"))
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0x10
    weights.write_bytes(data)
    stock = open_stock()
    stock.load(models["second"])
    before = tensors()
    errors = []
    for _ in range(3):
        with pytest.raises(LoadRefusedError, match=r"model\.safetensors") as refusal:
            stock.load(replace(models["first"], folder=folder))
        # Kept here, as a log or a debugger may: an error holds on to nothing.
        errors.append(refusal.value)
    assert tensors() == before
    assert sold(stock) == ["second"]
    assert stock.load(models["first"]).replaced == ""


def tensors() -> int:
    """Return how many tensors this process holds."""
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_an_unknown_record_and_an_id_for_a_name_are_refused(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    stock = open_stock()
    with pytest.raises(RecordUnknownError, match=r"step 1 \(record\)"):
        stock.load(replace(models["first"], model_id=bytes(32)))
    with pytest.raises(ConfigError, match="cannot begin with 0x"):
        stock.load(replace(models["first"], name="0X12"))
    with pytest.raises(ModelUnknownError):
        stock.unload("first")


# Making room


def test_the_model_paid_longest_ago_gives_way_and_no_other(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    sizes = [size(open_stock(), models[name]) for name in ("first", "second")]
    stock = open_stock(memory_budget_bytes=3 * sizes[0] + sizes[1], unload_when_full=True)
    for name in ("a", "b", "c"):
        stock.load(replace(models["first"], name=name))
    # Loaded first, and paid last.
    stock.catalog.mark_paid(stock.catalog.get("a"))
    assert stock.load(models["second"]).unloaded == ()
    assert stock.load(replace(models["first"], name="d")).unloaded == ("b",)
    # It takes more than one of the small ones takes.
    assert stock.load(replace(models["second"], name="e")).unloaded == ("c", "a")
    assert sold(stock) == ["second", "d", "e"]


def test_a_model_with_a_call_in_flight_does_not_give_way(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    needed = size(open_stock(), models["large"])
    stock = open_stock(memory_budget_bytes=needed, unload_when_full=True)
    stock.load(models["first"])
    lease = stock.catalog.lease("first")
    with pytest.raises(MemoryExceededError) as refusal:
        stock.load(models["large"])
    assert "calls in flight" in refusal.value.hint
    assert sold(stock) == ["first"]
    # Also what was unloaded takes its place until its last call has ended.
    stock.unload("first")
    with pytest.raises(MemoryExceededError):
        stock.load(models["large"])
    lease.end()
    assert stock.load(models["large"]).unloaded == ()


def test_nothing_gives_way_to_a_model_that_is_not_what_the_chain_vouches_for(
    open_stock: Open, models: dict[str, ModelConfig], tmp_path: Path
) -> None:
    needed = size(open_stock(), models["large"])
    stock = open_stock(memory_budget_bytes=needed, unload_when_full=True)
    stock.load(models["first"])
    before = stock.catalog.get("first")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightproofError):
        stock.load(replace(models["large"], folder=tmp_path))
    assert stock.catalog.get("first") is before


def test_what_gave_way_to_a_model_that_fails_later_is_sold_again(
    shop: Shop, open_stock: Open, models: dict[str, ModelConfig], tmp_path: Path
) -> None:
    needed = size(open_stock(), models["large"])
    stock = open_stock(memory_budget_bytes=needed, unload_when_full=True)
    stock.load(models["first"])
    before = stock.catalog.get("first")
    folder = Path(shutil.copytree(shop.config.parent / "large", tmp_path / "large"))
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    # A weight, not the header: it is found only where the tensor is placed and hashed.
    data[-1] ^= 0x10
    weights.write_bytes(data)
    with pytest.raises(LoadRefusedError, match=r"model\.safetensors"):
        stock.load(replace(models["large"], folder=folder))
    after = stock.catalog.get("first")
    assert after is not before
    assert after.verified.model_id == models["first"].model_id
    assert after.price == PRICE
    assert stock.used() == after.memory


# Memory and time


def test_memory_comes_back_with_each_model_that_goes(shop: Shop, open_stock: Open) -> None:
    folder = large_model(shop.config.parent / "wide", layers=2)
    model = ModelConfig("wide", shop.publish(folder), folder, PRICE)
    stock = open_stock()
    weights = (folder / "model.safetensors").stat().st_size
    assert weights > 20 * MIB
    stock.load(model)
    base = resident_bytes()
    for _ in range(4):
        stock.load(model)  # a swap
        stock.settle()
    # Less than one model more: its weights and their packed copy.
    assert resident_bytes() - base < 2 * weights
    stock.unload("wide")
    stock.settle()
    assert resident_bytes() - base < -weights // 2


def test_a_call_that_began_before_an_unload_computes_on_and_is_freed_after(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    stock = open_stock()
    stock.load(models["first"])
    lease = stock.catalog.lease("first")
    stock.unload("first")
    engine = lease.entry.engine
    assert isinstance(engine, TextEngine)
    engine.check_length(1, 1)
    assert lease.entry.loaded.resident.changed() is None
    lease.end()
    stock.settle()
    assert sum(p.numel() for p in lease.entry.loaded.module.parameters()) == 0


def test_the_engine_that_the_settings_name_answers_and_is_freed(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    stock = open_stock(engine="transformers")
    stock.load(models["first"])
    entry = stock.catalog.get("first")
    engine = entry.engine
    assert isinstance(engine, Generator)
    assert engine.facts.engine == "transformers/continuous"

    async def answer() -> int:
        id = engine.submit(GenerationRequest((1, 2, 3), Sampling(5)))
        return sum([len(delta.token_ids) async for delta in engine.stream(id)])

    assert asyncio.run(answer()) == 5
    stock.unload("first")
    stock.settle()
    assert engine.stats().cache_capacity == 0
    assert sum(p.numel() for p in entry.loaded.module.parameters()) == 0


def test_an_event_loop_turns_while_a_model_is_loaded(shop: Shop, open_stock: Open) -> None:
    folder = large_model(shop.config.parent / "deep", layers=8)
    model = ModelConfig("deep", shop.publish(folder), folder, PRICE)
    stock = open_stock()

    async def go() -> tuple[float, float, int]:
        began = time.monotonic()
        job = asyncio.create_task(asyncio.to_thread(stock.load, model))
        longest, turns = 0.0, 0
        while not job.done():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest, turns = max(longest, time.monotonic() - before), turns + 1
        await job
        return longest, time.monotonic() - began, turns

    longest, whole, turns = asyncio.run(go())
    print(f"longest pause {longest * 1000:.0f} ms of {whole * 1000:.0f} ms, {turns} turns")
    # A loop that waited for the load would turn once.
    assert turns > 10
    assert longest < max(0.25, whole / 2)


def test_a_node_that_ends_ends_the_load_too(
    shop: Shop, open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    stock = open_stock()
    errors: list[WeightproofError] = []
    steps: list[str] = []

    def progress(label: str, _total: int) -> Callable[[int], None]:
        steps.append(label)
        return lambda _: None

    def load() -> None:
        try:
            stock.load(models["large"], progress)
        except WeightproofError as error:
            errors.append(error)

    with shop.gate.shut():
        loading = threading.Thread(target=load)
        loading.start()
        assert shop.gate.waiting.wait(30)
        stock.close()
    loading.join(60)
    assert not loading.is_alive()
    assert [type(error) for error in errors] == [UnavailableError]
    assert steps == ["verifying large"]
    assert stock.catalog.held() == ()


def large_model(folder: Path, *, layers: int) -> Path:
    """Some 20 MB of weights for two layers."""
    tiny_models.llama(folder)
    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tiny_models.VOCABULARY,
            hidden_size=512,
            intermediate_size=1536,
            num_hidden_layers=layers,
            num_attention_heads=8,
            num_key_value_heads=8,
            max_position_embeddings=128,
            bos_token_id=None,
            eos_token_id=tiny_models.END_ID,
            pad_token_id=tiny_models.END_ID,
        )
    )
    model.save_pretrained(folder)
    return folder


def resident_bytes() -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


def test_the_cache_counts_with_the_weights(
    open_stock: Open, models: dict[str, ModelConfig]
) -> None:
    stock = open_stock()
    # 64 contexts; 2 layers, keys and values, 2 heads of width 8 that take 16, 4 bytes each.
    per_token = 64 * 2 * 2 * 2 * 16 * 4
    sizes = {name: size(stock, models[name]) for name in ("first", "large")}
    assert sizes["large"] - sizes["first"] == per_token * (2048 - 256)
