"""What calls ask: an instruction about a passage of Python's documentation, no two alike."""

from __future__ import annotations

import pydoc_data.topics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from inference.engine.prompter import Prompter
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest

# The tokens of an answer, at most.
TOKENS: Final = 300
_PASSAGE: Final = 420
_INSTRUCTIONS: Final = (
    "Summarise this text for a beginner, at length.",
    "Write a dialogue between a teacher and a pupil about this text.",
    "Explain what follows from this text, step by step.",
    "Write a story in which somebody needs to know this.",
    "Ask ten questions about this text and answer each.",
    "Write a letter to a friend that explains this text.",
    "Criticise this text, sentence by sentence.",
    "Turn this text into a long list of rules, with an example for each.",
)
# What a payer asked for, by name. At the edge of a nucleus rounding decides too.
SAMPLINGS: Final[dict[str, dict[str, Any]]] = {
    "greedy": {"temperature": Decimal(0)},
    "drawn": {"temperature": Decimal("0.7"), "top_p": Decimal("0.95")},
}


@dataclass(frozen=True)
class Ask:
    """A call: what was asked, and what a node computed instead where it lies."""

    asked: GenerationRequest
    done: GenerationRequest


def asks(
    prompter: Prompter, how: str, numbers: Iterable[int], lie: str = ""
) -> Iterator[tuple[int, Ask]]:
    """Yield calls, each drawn with a seed of its own; `lie` is what the node does instead."""
    for number in numbers:
        instruction, passage = _text(number)
        prompt = _prompt(prompter, instruction, passage, "")
        sampling = Sampling(TOKENS, seed=1000 + number, **SAMPLINGS[how])
        done, other = sampling, prompt
        if lie == "temperature":
            done = Sampling(TOKENS, seed=1000 + number, **_COOLER_OR_WARMER[how])
        if lie in ("template", "truncated"):
            other = _prompt(prompter, instruction, passage, lie)
        yield number, Ask(GenerationRequest(prompt, sampling), GenerationRequest(other, done))


def _text(number: int) -> tuple[str, str]:
    """Return a call's instruction and passage."""
    topics = sorted(pydoc_data.topics.topics.items())
    name, topic = topics[number * 7 % len(topics)]
    place = (number // len(topics)) * _PASSAGE + topic.find("\n\n") + 2
    return _INSTRUCTIONS[number % len(_INSTRUCTIONS)], topic[place : place + _PASSAGE] or name


_COOLER_OR_WARMER: Final[dict[str, dict[str, Any]]] = {
    "greedy": {"temperature": Decimal("0.3")},
    "drawn": {"temperature": Decimal("0.6"), "top_p": Decimal("0.95")},
}


def _prompt(prompter: Prompter, instruction: str, passage: str, lie: str) -> tuple[int, ...]:
    if lie == "truncated":  # the first half of what was given is not read
        passage = passage[len(passage) // 2 :]
    messages = [{"role": "user", "content": f"{instruction}\n\n{passage}"}]
    if lie == "template":  # the house adds a word of its own
        messages.insert(0, {"role": "system", "content": "You are a helpful assistant."})
    return prompter.encode_chat(messages)
