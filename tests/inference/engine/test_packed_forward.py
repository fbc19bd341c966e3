"""The packed forward pass: transformers' logits, and bits that company, cuts and threads keep."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.forward import Span
from inference.engine.kernels.unit import has_bf16_unit, processor
from inference.errors import GenerationError
from tests.inference.engine.packed_bench import (
    BLOCK,
    CONTEXT,
    VOCABULARY,
    PackedBench,
    cut,
    module,
    prompt,
    together,
)

ROOT = Path(__file__).parents[3]
SIZES = (1, 2, 15, 16, 17, 33, 64, 100, CONTEXT)


NEEDS_UNIT = pytest.mark.skipif(not has_bf16_unit(), reason="needs a processor's bfloat16 unit")


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=NEEDS_UNIT)],
    ids=["single", "paired"],
)
def benches(request: pytest.FixtureRequest) -> Iterator[list[PackedBench]]:
    """The same weights on one thread and on two."""
    dtype = torch.bfloat16 if request.param else torch.float32
    made = [
        PackedBench(module("qwen2", dtype=dtype), threads=threads, paired=request.param)
        for threads in (1, 2)
    ]
    yield made
    for bench in made:
        bench.close()


# Refusals


def test_more_rows_than_there_is_room_for_are_refused_before_they_are_written(
    benches: list[PackedBench],
) -> None:
    bench = benches[0]
    sequence = bench.sequence(prompt(1, CONTEXT))
    with pytest.raises(GenerationError, match="room"):
        bench.run(*[Span(sequence, 0, CONTEXT)] * 5)
    bench.give_back(sequence)


def test_a_token_that_is_not_a_number_spoils_only_who_has_it_and_not_who_comes_after() -> None:
    model = module()
    bench = PackedBench(model)
    clean, other = prompt(1, 40), prompt(2, 40)
    expected, expected_other = bench.alone(clean), bench.alone(other)
    model.model.embed_tokens.weight.detach()[5] = float("nan")
    spoiled = bench.sequence([*prompt(3, 20), 5, *prompt(4, 20)])
    beside = [bench.sequence(clean), bench.sequence(other)]
    found = together(bench, [cut(s, []) for s in (beside[0], spoiled, beside[1])])
    assert np.isnan(found[1].view(np.float32)).all()
    assert (found[0] == expected).all()
    assert (found[2] == expected_other).all()
    bench.give_back(spoiled, *beside)
    # The next one gets the blocks that hold what is no number.
    for size in (1, 17, 40):
        again = bench.sequence(clean[:size], blocks=spoiled.blocks[: -(-size // BLOCK)])
        assert (bench.run(Span(again, 0, size))[0] == bench.alone(clean[:size])).all()
    bench.close()


def test_closing_ends_the_threads_and_may_be_done_twice() -> None:
    before = set(threading.enumerate())
    bench = PackedBench(module(), threads=3)
    bench.alone([1, 2, 3])
    assert len(set(threading.enumerate()) - before) == 2
    bench.close()
    bench.close()
    assert set(threading.enumerate()) <= before


# Numbers


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("llama", {"width": 8, "heads": 4, "groups": 4}),
        ("llama", {"width": 16, "heads": 4, "groups": 1}),
        ("llama", {"width": 32, "heads": 6, "groups": 2}),
        ("llama", {"width": 64, "heads": 3, "groups": 3}),
        ("llama", {"width": 80, "heads": 2, "groups": 1}),
        ("llama", {"width": 128, "heads": 4, "groups": 2}),
        ("llama", {"hidden": 64, "inner": 64, "vocabulary": 256}),
        ("llama", {"vocabulary": 251, "inner": 31, "hidden": 4, "heads": 1, "groups": 1}),
        ("llama", {"tie_word_embeddings": True}),
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 500.0,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 32,
                }
            },
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}},
        ),
        (
            "qwen2",
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 1000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 40,
                }
            },
        ),
        ("qwen2", {"heads": 6, "groups": 3, "hidden": 96}),
        ("qwen2", {"heads": 1, "groups": 1, "hidden": 80}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_equal_those_of_the_same_weights_in_double_precision(
    kind: str, how: dict, dtype: torch.dtype
) -> None:
    model = module(kind, dtype=dtype, **how)
    bench = PackedBench(model)
    bound = how.get("vocabulary", VOCABULARY)
    wide = module(kind, dtype=dtype, **how).double()
    for size in SIZES:
        tokens = [token % bound for token in prompt(size, size)]
        expected = wide(torch.tensor([tokens])).logits[0, -1].numpy()
        found = bench.alone(tokens).view(np.float32)
        assert np.allclose(found, expected, rtol=2e-4, atol=2e-4), size
    bench.close()


@NEEDS_UNIT
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("llama", {"width": 8, "heads": 4, "groups": 4}),
        ("llama", {"width": 80, "heads": 2, "groups": 1}),
        ("llama", {"hidden": 128, "heads": 4, "groups": 2, "inner": 256}),
        ("llama", {"vocabulary": 251, "inner": 31, "hidden": 4, "heads": 1, "groups": 1}),
        ("qwen2", {"heads": 6, "groups": 1, "hidden": 96}),
    ],
)
def test_the_bfloat16_unit_comes_as_near_to_double_precision_as_transformers_in_bfloat16(
    kind: str, how: dict
) -> None:
    model = module(kind, dtype=torch.bfloat16, **how)
    bench = PackedBench(model, paired=True)
    assert bench.forward.name == f"packed-bf16-{processor()}"
    bound = how.get("vocabulary", VOCABULARY)
    wide = module(kind, dtype=torch.bfloat16, **how).double()
    ours, theirs = [], []
    for size in SIZES:
        tokens = [token % bound for token in prompt(size, size)]
        expected = wide(torch.tensor([tokens])).logits[0, -1].numpy()
        found = bench.alone(tokens).view(np.float32)
        narrow = model(torch.tensor([tokens])).logits[0, -1].double().numpy()
        ours.append(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        theirs.append(np.linalg.norm(narrow - expected) / np.linalg.norm(expected))
    assert 0 < np.mean(ours) <= np.mean(theirs)
    bench.close()


# Bits

ELSEWHERE = """
import torch
from inference.engine.compute_plan import plan
from tests.inference.engine.packed_bench import CONTEXT, PackedBench, module, prompt
model = module(dtype=torch.bfloat16)
how = plan(model.config, dtype=torch.bfloat16, device=torch.device("cpu"), context=CONTEXT)
bench = PackedBench(model, paired=how.paired)
print(how.packed, how.paired, bench.forward.name, bench.alone(prompt(1, 40)).tobytes().hex())
"""


def test_a_processor_without_the_unit_computes_bfloat16_to_the_bits_of_single_precision_here() -> (
    None
):
    # AVX2 and fused multiply-add, half as wide vectors, and nothing for bfloat16.
    told = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=ROOT,
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    bench = PackedBench(module(dtype=torch.bfloat16))
    assert done.stdout.split() == [
        "True",
        "False",
        "packed",
        bench.alone(prompt(1, 40)).tobytes().hex(),
    ]
    bench.close()


@settings(max_examples=60)
@given(st.data())
def test_company_cuts_and_threads_change_no_bit(
    benches: list[PackedBench], data: st.DataObject
) -> None:
    for bench in benches:
        bench.forget()
    sizes = data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=7))
    prompts = [prompt(data.draw(st.integers(0, 5)), size) for size in sizes]
    expected = [benches[0].alone(tokens) for tokens in prompts]
    bench = benches[data.draw(st.integers(0, 1))]
    sequences = [bench.sequence(tokens) for tokens in prompts]
    queues = [cut(s, data.draw(st.lists(st.integers(1, 89), max_size=4))) for s in sequences]
    # Some begin steps later than others.
    for found, wanted in zip(together(bench, queues), expected, strict=True):
        assert (found == wanted).all()


@settings(max_examples=30)
@given(st.data())
def test_a_beginning_that_was_computed_by_another_gives_the_same_bits(
    benches: list[PackedBench], data: st.DataObject
) -> None:
    for bench in benches:
        bench.forget()
    bench = benches[data.draw(st.integers(0, 1))]
    shared = prompt(7, BLOCK * data.draw(st.integers(1, 5)))
    first = bench.sequence([*shared, *prompt(8, data.draw(st.integers(1, 20)))])
    together(bench, [cut(first, data.draw(st.lists(st.integers(1, 100), max_size=3)))])
    tokens = [*shared, *prompt(9, data.draw(st.integers(1, 40)))]
    second = bench.sequence(tokens, blocks=first.blocks[: len(shared) // BLOCK])
    places = data.draw(st.lists(st.integers(1, 120), max_size=3))
    found = together(bench, [cut(second, places, start=len(shared))])[0]
    assert (found == benches[0].alone(tokens)).all()


def test_tokens_made_one_by_one_give_the_bits_of_the_whole_text(
    benches: list[PackedBench],
) -> None:
    tokens = prompt(1, 70)
    for bench in benches:
        bench.forget()
        sequence = bench.sequence(tokens)
        for size in range(1, 71):
            sequence.tokens = tokens[:size]
            found = bench.run(Span(sequence, size - 1, 1))[0]
            assert (found == benches[0].alone(tokens[:size])).all()


def test_computing_a_span_again_does_no_harm(benches: list[PackedBench]) -> None:
    bench, tokens = benches[1], prompt(4, 50)
    bench.forget()
    sequence = bench.sequence(tokens)
    for _ in range(3):
        for span in cut(sequence, [20, 37]):
            found = bench.run(span)[0]
    assert (found == benches[0].alone(tokens)).all()
    bench.give_back(sequence)
