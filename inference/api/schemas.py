"""Request bodies, strict: an unknown or unsupported field is a 400 that names it.

Shapes are OpenAI's (Chat Completions API reference).
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from inference.errors import RequestError

# Defaults and limits of OpenAI's reference.
DEFAULT_MAX_TOKENS = 256
MAX_STOP_STRINGS = 4
MAX_MESSAGES = 1024

# A receipt states the number digit for digit; no model tells finer settings apart.
_DECIMAL: dict[str, Any] = {"strict": False, "decimal_places": 20}

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Body = TypeVar("_Body", bound=BaseModel)


class StrictBody(BaseModel):
    """A body or a part of one: an unknown field is refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(StrictBody):
    """One piece of a message's content; only text is sold here."""

    type: Literal["text"]
    text: str


class Message(StrictBody):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant", "developer"]
    content: str | list[TextPart]

    def plain(self) -> dict[str, str]:
        """Return role and text as the chat template takes them."""
        text = (
            self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)
        )
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(StrictBody):
    """What a stream carries beside the tokens."""

    include_usage: bool = False


class ChatRequest(StrictBody):
    """Body of `POST /v1/chat/completions`."""

    model: Name
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[Decimal, Field(ge=0, le=2, **_DECIMAL)] | None = None
    top_p: Annotated[Decimal, Field(gt=0, le=1, **_DECIMAL)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=MAX_STOP_STRINGS)] | None = None
    n: Literal[1] = 1
    user: Name | None = None

    def limit(self) -> int:
        """Return the most tokens the answer may have."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    def stops(self) -> tuple[str, ...]:
        """Return the stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


def parse(kind: type[_Body], body: bytes) -> _Body:
    """Read a JSON body as `kind`. Raises `RequestError` that names the first field at fault."""
    try:
        value = json.loads(
            body, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_object
        )
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        message = "is not supported here" if unknown else first["msg"]
        raise RequestError(f"{field or 'body'}: {message}", param=field) from error


def _refuse(text: str) -> NoReturn:
    raise RequestError(f"{text} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RequestError("the body names a field twice")
    return result
