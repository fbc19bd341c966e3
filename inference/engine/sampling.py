"""How a call's tokens are chosen, and what is known of a choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.errors import GenerationError, RequestError

# OpenAI's limits for temperature and stop strings.
MAX_TEMPERATURE: Final = Decimal(2)
MAX_STOPS: Final = 4
MAX_STOP_CHARACTERS: Final = 256
# Seeds stand in JSON, where larger integers are not exact.
MAX_SEED: Final = 2**53 - 1
MAX_PENALTY: Final = Decimal(2)
MAX_TOP_LOGPROBS: Final = 20
NOT_NUMBERS: Final = "the model computed logits that are not numbers"

Logits = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Sampling:
    """How a call's tokens are chosen. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 keep all.

    `choice` numbers the answers to one request: each is drawn with noise of its own. Penalties are
    taken off the logits of tokens of the answer so far (OpenAI's formula). `top_logprobs` is how
    many of the likeliest tokens are told of beside the one that was chosen.

    Raises `RequestError` that names the parameter when a value is out of range.
    """

    max_tokens: int
    temperature: Decimal = Decimal(0)
    top_p: Decimal = Decimal(1)
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    frequency_penalty: Decimal = Decimal(0)
    presence_penalty: Decimal = Decimal(0)
    choice: int = 0
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", "must be at least 1")
        _require(
            self.temperature.is_finite() and 0 <= self.temperature <= MAX_TEMPERATURE,
            "temperature",
            f"must be from 0 to {MAX_TEMPERATURE}",
        )
        for name in ("frequency_penalty", "presence_penalty"):
            value: Decimal = getattr(self, name)
            _require(
                value.is_finite() and abs(value) <= MAX_PENALTY,
                name,
                f"must be from -{MAX_PENALTY} to {MAX_PENALTY}",
            )
        _require(0 <= self.choice <= MAX_SEED, "n", "is out of range")
        _require(
            0 <= self.top_logprobs <= MAX_TOP_LOGPROBS,
            "top_logprobs",
            f"must be from 0 to {MAX_TOP_LOGPROBS}",
        )
        _require(
            self.top_p.is_finite() and 0 < self.top_p <= 1, "top_p", "must be above 0, at most 1"
        )
        _require(self.top_k >= 0, "top_k", "must not be negative")
        _require(0 <= self.seed <= MAX_SEED, "seed", f"must be from 0 to {MAX_SEED}")
        _require(len(self.stop) <= MAX_STOPS, "stop", f"may have at most {MAX_STOPS} strings")
        _require(
            all(0 < len(text) <= MAX_STOP_CHARACTERS for text in self.stop),
            "stop",
            f"strings must have 1 to {MAX_STOP_CHARACTERS} characters",
        )

    @property
    def is_plain(self) -> bool:
        """Return whether the likeliest token is taken and nothing else is asked."""
        penalties = self.frequency_penalty or self.presence_penalty
        return self.temperature == 0 and not penalties and not self.top_logprobs

    def to_json(self) -> dict[str, int | str]:
        """Return what a receipt states. Stop strings are text of the caller and stay out."""
        return {
            "seed": self.seed,
            "temperature": format(abs(self.temperature).normalize(), "f"),
            "topP": format(self.top_p.normalize(), "f"),
            "topK": self.top_k,
            "maxTokens": self.max_tokens,
        }


@dataclass(frozen=True)
class Choice:
    """A token that was chosen, and how clearly.

    `logprob` is its log-probability under the model itself: temperature 1, no penalties, nothing
    cut off. `margin` is by how much, in logits, the runner-up lost; infinite where there was none.
    A replay whose rounding differs can only tip choices of small margin. `top` are the likeliest
    tokens with their log-probabilities, as many as were asked for.
    """

    token: int
    logprob: float
    margin: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Peak:
    """What a forward pass found of logits on its way.

    The best token, the lowest id where several are equal; its logit and the second-best one; and
    the sum of exp(logit - best), NaN where a logit is.
    """

    token: int
    best: float
    second: float
    total: float

    def choice(self) -> Choice:
        """Return the greedy choice. Raises `GenerationError` like `choose`."""
        if not (math.isfinite(self.best) and math.isfinite(self.total)):
            raise GenerationError(NOT_NUMBERS)
        return Choice(self.token, -math.log(self.total), self.best - self.second)


def _require(condition: bool, name: str, rule: str) -> None:
    if not condition:
        raise RequestError(f"{name} {rule}", param=name)
