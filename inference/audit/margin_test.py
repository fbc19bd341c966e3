"""The margin test: whether a claimed answer is the model's, where rounding may tip close choices.

Each token of the answer was chosen from logits and a seed that the receipt fixes. The reference
says by how much, in logits, each lost to the token that it would choose itself: nothing nearly
always, and a little now and then, as rounding moves logits a little. Other weights, another prompt
or another temperature make tokens lose more often and by more. The score of an answer is the mean
of what its tokens lost, each cut off at a bound, so that no single token decides.

An honest answer of n tokens scores at most `mean + sigmas · spread / √n`: figures of single tokens
that honest calls were measured to have, by the arithmetic that the receipt names. The document
`thresholds.json` has them, by the digest over the model's tensors.

Source: the method is Token-DiFR's (arXiv 2511.20621); logits in place of scaled logits, and bounds
that know the answer's length, are ours.
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
_MAX_MODELS: Final = 1000
_MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class HonestTokens(Document):
    """What single tokens of honest calls lost: mean and spread in logits, from how many of each."""

    mean: Decimal
    spread: Decimal
    calls: Count
    tokens: Count


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

    `clip` is in logits, `sigmas` how many spreads of the mean an honest answer may be off.
    """

    FORMAT: ClassVar[str] = "weightproof/thresholds@1"

    clip: Decimal
    sigmas: Decimal
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
        count = max(1, len(lost))
        room = float(self.sigmas) * float(honest.spread) / math.sqrt(count)
        return Verdict(
            score=score(lost, float(self.clip)),
            bound=float(honest.mean) + room,
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


def score(lost: Sequence[float], clip: float) -> float:
    """Return the mean of what tokens lost, each at most `clip`; 0 of none."""
    return sum(min(each, clip) for each in lost) / max(1, len(lost))
