"""What the bodies of both text routes have in common: how tokens are drawn, and how many."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from inference.api.schemas import Name, StrictBody
from inference.engine.sampling import MAX_SEED, MAX_STOP_CHARACTERS, MAX_STOPS, Sampling
from inference.errors import RequestError

# Each answer takes a place in the engine's queue of its own.
MAX_CHOICES: Final = 8
# More than any model's context.
MAX_LIMIT: Final = 1_000_000


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise PydanticCustomError("number_type", "Input should be a number")
    return value


# A receipt states the number digit for digit; no model tells finer settings apart.
_DECIMAL: Final[dict[str, Any]] = {"strict": False, "decimal_places": 20}
_IS_NUMBER: Final = BeforeValidator(_number)

Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]
_Temperature = Annotated[Decimal, Field(ge=0, le=2, **_DECIMAL), _IS_NUMBER]
_Share = Annotated[Decimal, Field(gt=0, le=1, **_DECIMAL), _IS_NUMBER]
_Penalty = Annotated[Decimal, Field(ge=-2, le=2, **_DECIMAL), _IS_NUMBER]


class StreamOptions(StrictBody):
    """What a stream carries beside the tokens."""

    include_usage: bool | None = None


class SampledBody(StrictBody):
    """The fields of both routes. Null is the default, as in OpenAI's reference.

    `determinism: "exact"` asks that the tokens depend on this request alone, whatever else the
    node computes; it may have a price of its own.
    """

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Limit | None = None
    temperature: _Temperature | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_LIMIT)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=MAX_STOPS)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    determinism: Literal["exact"] | None = None
    user: Name | None = None

    @model_validator(mode="after")
    def _check_stream(self) -> SampledBody:
        if self.stream_options is not None and not self.stream:
            raise RequestError(
                "stream_options: is only for a stream", param="stream_options", hint="stream: true"
            )
        return self

    @property
    def choices(self) -> int:
        """Return how many answers to each prompt are asked for."""
        return self.n or 1

    @property
    def exact(self) -> bool:
        """Return whether the tokens may depend on this request alone."""
        return self.determinism == "exact"

    @property
    def include_usage(self) -> bool:
        """Return whether a stream tells the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def limit(self) -> int:
        """Return the most tokens one answer may have."""
        raise NotImplementedError

    @property
    def limit_field(self) -> str:
        """Return the name of the field that sets the limit."""
        return "max_tokens"

    def listed(self) -> int | None:
        """Return how many of the likeliest tokens are told of; None without log-probabilities."""
        raise NotImplementedError

    def stops(self) -> tuple[str, ...]:
        """Return the stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def sampling(self, *, seed: int) -> Sampling:
        """Return how the first answer's tokens are drawn; `seed` where none is named."""
        return Sampling(
            max_tokens=self.limit(),
            temperature=Decimal(1) if self.temperature is None else self.temperature,
            top_p=Decimal(1) if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            seed=seed if self.seed is None else self.seed,
            stop=self.stops(),
            frequency_penalty=self.frequency_penalty or Decimal(0),
            presence_penalty=self.presence_penalty or Decimal(0),
            top_logprobs=self.listed() or 0,
        )
