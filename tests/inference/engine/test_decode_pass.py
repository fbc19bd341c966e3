"""A decode pass computes what the modules compute without it, and reads nothing of anybody else.

On a GPU passes are recorded; here they are computed each time, with an attention written down as
its definition. `tests/gpu` plays recordings.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel, Qwen2Config

from inference.engine.forward import Span
from inference.engine.kv_cache import BLOCK, blocks_for
from inference.engine.module_forward import ModuleForward
from tests.inference.engine import interpreted_attention

CONTEXT = 96
BLOCKS = 40
CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
    ),
    "qwen2": Qwen2Config(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
    ),
    "gpt2": GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT),
}


def defined(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tables: torch.Tensor,
    lengths: torch.Tensor,
    *,
    scale: float,
) -> torch.Tensor:
    """Attention as it is defined, one sequence after another."""
    out = torch.empty_like(query)
    for row, (table, length) in enumerate(zip(tables, lengths.tolist(), strict=True)):
        blocks = table[: blocks_for(length)]
        k = keys[blocks].transpose(0, 1).flatten(1, 2)[:, :length].double()
        v = values[blocks].transpose(0, 1).flatten(1, 2)[:, :length].double()
        shared = query.shape[0] // keys.shape[1]
        k, v = k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0)
        weights = torch.softmax(torch.einsum("hw,htw->ht", query[:, row].double(), k) * scale, 1)
        out[:, row] = torch.einsum("ht,htw->hw", weights, v).to(query.dtype)
    return out


def module(kind: str) -> PreTrainedModel:
    torch.manual_seed(7)
    made: Any = AutoModelForCausalLM.from_config(CONFIGS[kind])
    return made.eval()


def sequence(tokens: list[int], blocks: list[int]) -> Any:
    return SimpleNamespace(tokens=tokens, blocks=blocks, request=SimpleNamespace(exact=False))


def sequences(lengths: tuple[int, ...]) -> list[Any]:
    """Sequences of these lengths, each with blocks for a whole context where there is room."""
    free = iter(torch.randperm(BLOCKS, generator=torch.Generator().manual_seed(3)).tolist())
    made = []
    for number, length in enumerate(lengths):
        tokens = [(7 * number + 3 * place) % 61 for place in range(length)]
        made.append(sequence(tokens, [next(free) for _ in range(blocks_for(length + 4))]))
    return made


def logits(forward: ModuleForward, spans: list[Span]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(n.logits) for n in forward.run(spans) if n is not None])


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("lengths", [(1,), (16, 1, 33), (5, 15, 17, 31, 64)], ids=str)
def test_a_decode_pass_gives_the_logits_of_the_modules(kind: str, lengths: tuple[int, ...]) -> None:
    plain = ModuleForward(module(kind), torch.device("cpu"), blocks=BLOCKS, context=CONTEXT)
    fast = ModuleForward(
        module(kind), torch.device("cpu"), blocks=BLOCKS, context=CONTEXT, attend=defined
    )
    # What nobody wrote must never be read.
    for forward in (plain, fast):
        forward._cache.keys.fill_(float("nan"))
        forward._cache.values.fill_(float("nan"))
    both = [(plain, sequences(lengths)), (fast, sequences(lengths))]
    for forward, all_ in both:
        forward.run([Span(one, 0, len(one.tokens)) for one in all_ if len(one.tokens) > 1])
    for step in range(4):
        found = []
        for forward, all_ in both:
            for one in all_:
                if step or len(one.tokens) > 1:
                    one.tokens.append((len(one.tokens) * 5 + step) % 61)
            spans = [Span(one, len(one.tokens) - 1, 1) for one in all_]
            found.append(logits(forward, spans))
        assert torch.isfinite(found[1]).all()
        assert torch.allclose(found[0], found[1], atol=1e-5)


def test_more_sequences_than_a_pass_holds_are_computed_in_several() -> None:
    forward = ModuleForward(
        module("llama"), torch.device("cpu"), blocks=80, context=CONTEXT, attend=defined
    )
    many = [sequence([number % 61], [number]) for number in range(70)]
    together = logits(forward, [Span(one, 0, 1) for one in many])
    alone = torch.cat([logits(forward, [Span(one, 0, 1)]) for one in many])
    assert together.shape == (70, 61)
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=interpreted_attention.prepare
    ) as pool:
        yield pool


@pytest.mark.parametrize(
    ("heads", "groups", "width", "lengths"),
    [(4, 4, 16, (1, 64, 65)), (6, 2, 64, (17, 130)), (32, 1, 24, (40,))],
    ids=str,
)
def test_the_kernel_attends_as_it_is_defined(
    interpreter: ProcessPoolExecutor, heads: int, groups: int, width: int, lengths: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(5)
    most = max(map(blocks_for, lengths))
    total = most * len(lengths) + 1
    keys = torch.randn((total, groups, BLOCK, width), generator=generator)
    values = torch.randn((total, groups, BLOCK, width), generator=generator)
    tables = torch.randperm(total - 1, generator=generator).view(len(lengths), most)
    # NaN wherever no sequence has a token, also behind the last one of each.
    live = torch.zeros((total, BLOCK), dtype=torch.bool)
    for table, length in zip(tables, lengths, strict=True):
        for place in range(length):
            live[table[place // BLOCK], place % BLOCK] = True
    for states in (keys, values):
        states.transpose(1, 2)[~live] = float("nan")
    query = torch.randn((heads, len(lengths), width), generator=generator)
    asked = (query, keys, values, tables, torch.tensor(lengths))
    found = interpreter.submit(interpreted_attention.attend, *asked, 0.3).result()
    assert torch.allclose(found, defined(*asked, scale=0.3), atol=1e-5)
