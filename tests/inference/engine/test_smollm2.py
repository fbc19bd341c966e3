"""The real model: greedy answers equal transformers' own, token for token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from inference.demo.models import prepare_smollm2
from inference.engine.engine import TextEngine
from inference.engine.prompter import Prompter
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.loader import load
from tests.inference.shelf import Shelf

# Kept between runs and out of git; making it takes half a minute.
CACHE = Path(__file__).parents[3] / ".cache" / "models"
CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "user", "content": "Écris une phrase avec « été » et l’emoji 🌍."}],
    [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "Why is the sky blue?"},
        {"role": "assistant", "content": "Because air scatters blue light more."},
        {"role": "user", "content": "And red at sunset?"},
    ],
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return prepare_smollm2(CACHE / "smollm2")


@dataclass(frozen=True)
class Served:
    engine: TextEngine
    prompter: Prompter


@pytest.fixture(scope="module")
def served(shelf: Shelf, folder: Path) -> Iterator[Served]:
    with shelf.verified(folder, task="chat") as verified:
        # On every processor alike; what its bfloat16 unit makes is compared in test_equality.
        loaded = load(verified, device="cpu", threads=1, single=True)
    running = TextEngine(loaded)
    yield Served(running, Prompter(loaded))
    running.close()


def ask(
    served: Served, messages: list[dict[str, str]], sampling: Sampling
) -> tuple[str, list[int], str | None]:
    async def work() -> tuple[str, list[int], str | None]:
        prompt = served.prompter.encode_chat(messages)
        id = served.engine.submit(GenerationRequest(prompt, sampling))
        deltas = [delta async for delta in served.engine.stream(id)]
        tokens = [token for delta in deltas for token in delta.token_ids]
        return "".join(delta.text for delta in deltas), tokens, deltas[-1].finish_reason

    return asyncio.run(work())


def test_the_template_and_the_tokenizer_agree_with_transformers(
    served: Served, folder: Path
) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    for messages in CHATS:
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert list(served.prompter.encode_chat(messages)) == list(expected)


def test_greedy_answers_equal_transformers_token_for_token(served: Served, folder: Path) -> None:
    # The engine widens bfloat16 weights, which is exact, and computes in single precision.
    reference = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for messages in CHATS:
        prompt = torch.tensor([served.prompter.encode_chat(messages)])
        expected = reference.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False
        )
        text, tokens, _ = ask(served, messages, Sampling(24))
        assert tokens == expected[0, prompt.shape[1] :].tolist()
        assert text == AutoTokenizer.from_pretrained(folder).decode(
            tokens, skip_special_tokens=True
        )


def test_the_model_knows_the_capital_of_france_and_stops(served: Served) -> None:
    text, tokens, reason = ask(served, CHATS[0], Sampling(24))
    assert "Paris" in text
    assert reason == "stop"
    assert tokens[-1] == 2


def test_a_seeded_answer_can_be_made_again(served: Served) -> None:
    how = Sampling(12, temperature=Decimal("0.9"), top_p=Decimal("0.9"), top_k=50, seed=1234)
    first = ask(served, CHATS[2], how)
    assert ask(served, CHATS[2], how) == first
