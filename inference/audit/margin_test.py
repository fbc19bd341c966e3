"""The margin test: whether a claimed answer is the model's, where rounding may tip close choices.

Each token of the answer was chosen from logits and a seed that the receipt fixes. The reference
says by how much, in logits, each lost to the token that it would choose itself: nothing nearly
always, and a little now and then, as rounding moves logits a little. Other weights, another prompt
or another temperature make tokens lose more often and by more.

The score of an answer is the sum of what its tokens lost beyond a floor, each cut off at a bound.
Honest tokens lose more than the floor at a small rate, and then by an amount that is as good as
exponentially distributed: so the sum over n tokens is a compound Poisson sum, and an answer is
accused whose sum an honest one exceeds but once in `one_in` times. Rate and size were measured on
honest calls, by the arithmetic that the receipt names, and stand in `thresholds.json` under the
digest over the model's tensors: both at the upper end of what the measurement allows.

Source: the method is Token-DiFR's (arXiv 2511.20621), which takes the mean of clipped margins; of
the statistics that were compared this one told most (`scripts/measure_replay.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final

from inference.audit.document import Count, Decimal, Digest, Document, ListKind, Text
from registry.signing.canonical import decode_object

# What a receipt's arithmetic can be: everything in single precision, or something in less.
SINGLE: Final = "single"
HALF: Final = "half"
_FILE: Final = Path(__file__).with_name("thresholds.json")
# Halvings of an interval: a double has no more digits.
_BISECTIONS: Final = 60
_MAX_MODELS: Final = 1000
_MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class HonestTokens(Document):
    """What tokens of honest calls lose, and from how many calls and tokens that is known.

    `rate` is the chance of one to lose more than `floor`, `size` by how much more on average; in
    logits.
    """

    floor: Decimal
    rate: Decimal
    size: Decimal
    calls: Count
    tokens: Count

    def score(self, lost: Sequence[float], clip: float) -> float:
        """Return the sum of what tokens lost beyond the floor, each at most `clip`, in logits."""
        floor = float(self.floor)
        return sum(max(0.0, min(each, clip) - floor) for each in lost)

    def bound(self, tokens: int, one_in: int) -> float:
        """Return the score that honest answers of so many tokens exceed once in `one_in` times."""
        most = float(self.rate) * tokens
        low, high = 0.0, 1.0
        while _exceeds(high, most) * one_in > 1:
            low, high = high, 2 * high
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if _exceeds(middle, most) * one_in > 1 else (low, middle)
        return high * float(self.size)


@dataclass(frozen=True)
class ModelThresholds(Document):
    """What was measured of one model. `weights` is the digest over its tensors."""

    name: Text
    weights: Digest
    single: HonestTokens
    half: HonestTokens


@dataclass(frozen=True)
class Thresholds(Document):
    """What honest answers score. `others` holds for models that nobody measured: more room.

    `clip` is in logits; of `one_in` honest answers one may be accused.
    """

    FORMAT: ClassVar[str] = "weightproof/thresholds@1"

    clip: Decimal
    one_in: Count
    models: Annotated[tuple[ModelThresholds, ...], ListKind(ModelThresholds, _MAX_MODELS)]
    others: ModelThresholds

    @classmethod
    def read(cls, path: Path = _FILE) -> Thresholds:
        """Read a file, by default the one that was measured for this version.

        Raises `FormatError`, `CanonicalError` or `OSError`.
        """
        text = path.read_bytes().removesuffix(b"\n")
        return cls.from_json(decode_object(text, max_bytes=_MAX_BYTES))

    def judge(self, weights: bytes, arithmetic: str, lost: Sequence[float]) -> Verdict:
        """Judge an answer by what each of its tokens lost, in logits; infinite what cannot be."""
        found = next((model for model in self.models if model.weights == weights), None)
        model = found or self.others
        honest = model.single if arithmetic == SINGLE else model.half
        return Verdict(
            score=honest.score(lost, float(self.clip)),
            bound=honest.bound(len(lost), self.one_in),
            tokens=len(lost),
            measured=found is not None,
        )


@dataclass(frozen=True)
class Verdict:
    """What an answer of `tokens` tokens scores, and the highest score that is honest, in logits.

    `measured` says that the bound is of this very model.
    """

    score: float
    bound: float
    tokens: int
    measured: bool

    @property
    def is_honest(self) -> bool:
        """Whether an honest node may have made it."""
        return self.score <= self.bound

    def to_json(self) -> dict[str, object]:
        """Return it as evidence: decimals as text."""
        return {
            "score": f"{self.score:.6f}",
            "bound": f"{self.bound:.6f}",
            "tokens": self.tokens,
            "measured": "this model" if self.measured else "other models",
        }


def _exceeds(sizes: float, events: float) -> float:
    """Return how likely a compound Poisson sum is to exceed `sizes` times its mean summand.

    Of k exponential summands the sum exceeds x with the chance e^-x · Σ x^j / j! over j < k.
    """
    chance = below = 0.0
    for count in range(1, int(events + 12 * math.sqrt(events)) + 40):
        below += _poisson(count - 1, sizes)
        chance += _poisson(count, events) * min(1.0, below)
    return chance


def _poisson(count: int, mean: float) -> float:
    """Return how likely `count` events are where `mean` are expected; by logarithms, for size."""
    if mean == 0:
        return float(count == 0)
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
