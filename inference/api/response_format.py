"""`response_format` of a chat request: plain text, any JSON object, or JSON of a schema."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from inference.api.schemas import StrictBody
from inference.engine.grammar import MAX_DEPTH, depth_over

# OpenAI's rule for names of schemas and functions.
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Description = Annotated[str, StringConstraints(max_length=4096)]


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with fractions as floats, as grammars and templates take them."""
    if depth_over(schema, MAX_DEPTH):
        raise PydanticCustomError("depth", f"Input should not be nested deeper than {MAX_DEPTH}")
    found: dict[str, Any] = _floats(schema)
    return found


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _floats(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    if not isinstance(value, Decimal):
        return value
    number = float(value)
    if not isfinite(number):
        raise PydanticCustomError("finite_number", "Input should have finite numbers")
    return number


# A JSON schema as it was sent; what it says is the grammar's business.
JsonSchema = Annotated[dict[str, Any], AfterValidator(_checked)]


class TextFormat(StrictBody):
    """No rule for the answer."""

    type: Literal["text"]


class ObjectFormat(StrictBody):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(StrictBody):
    """A JSON schema. It is followed to the letter, whether `strict` says so or not."""

    name: Identifier
    description: Description | None = None
    schema_: Annotated[JsonSchema, Field(alias="schema")]
    strict: bool | None = None


class SchemaFormat(StrictBody):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


def schema_of(chosen: TextFormat | ObjectFormat | SchemaFormat | None) -> dict[str, Any] | None:
    """Return the schema that the answer must follow, or None."""
    if isinstance(chosen, SchemaFormat):
        return chosen.json_schema.schema_
    return {"type": "object"} if isinstance(chosen, ObjectFormat) else None
