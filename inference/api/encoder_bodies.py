"""Bodies of requests to models that read and do not write: embeddings and classifications.

Shapes of embeddings are OpenAI's (Embeddings API reference); `input` of `/v1/classify` is vLLM's,
`image` takes what OpenAI's `image_url` takes as data. An unknown field is a 400 that names it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, TypeGuard

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from inference.api.schemas import Name, StrictBody

# OpenAI's limit for embeddings.
MAX_INPUTS: Final = 2048
MAX_CLASSIFIED: Final = 256

# What may stand in `input`: texts, or texts as token ids.
Texts: TypeAlias = tuple[str, ...]
Tokens: TypeAlias = tuple[tuple[int, ...], ...]


def _is_ids(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _input(value: Any) -> Texts | Tokens:
    """Read a text, a list of texts, token ids, or a list of token ids."""
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise PydanticCustomError("input", "is empty")
    if type(listed[0]) is int:
        listed = [value]
    if len(listed) > MAX_INPUTS:
        raise PydanticCustomError("input", f"has {len(listed)} texts, at most {MAX_INPUTS} at once")
    if all(isinstance(item, str) for item in listed):
        return tuple(listed)
    if all(_is_ids(item) for item in listed):
        return tuple(tuple(ids) for ids in listed)
    raise PydanticCustomError("input", "is no text, list of texts, token ids or list of token ids")


def _texts(value: Any) -> Texts:
    """Read a text or a list of texts."""
    listed = value if isinstance(value, list) else [value]
    if not 0 < len(listed) <= MAX_CLASSIFIED:
        raise PydanticCustomError("input", f"has {len(listed)} texts, not 1 to {MAX_CLASSIFIED}")
    if not all(isinstance(item, str) for item in listed):
        raise PydanticCustomError("input", "is neither a text nor a list of texts")
    return tuple(listed)


class EmbeddingsRequest(StrictBody):
    """Body of `POST /v1/embeddings`. Token ids are read as they are: nothing is added to them."""

    model: Name
    input: Annotated[Texts | Tokens, PlainValidator(_input)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    user: Name | None = None


class ClassifyRequest(StrictBody):
    """Body of `POST /v1/classify`: texts for a model that reads texts, an image for one that sees.

    `image` is base64 of a PNG, JPEG or WebP file, by itself or in a data URL.
    """

    model: Name
    input: Annotated[Texts, PlainValidator(_texts)] | None = None
    image: Annotated[str, Field(min_length=1)] | None = None
    user: Name | None = None
