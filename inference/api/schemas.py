"""Request bodies, strict: an unknown or unsupported field is a 400 that names it.

Each route's body is in a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from inference.errors import RequestError

# Of what a refusal repeats of a body.
_MAX_FIELD: Final = 200
_MAX_MESSAGE: Final = 500

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Body = TypeVar("_Body", bound=BaseModel)


class StrictBody(BaseModel):
    """An object of a body: every field known, every value of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def parse(kind: type[_Body], body: bytes) -> _Body:
    """Read a JSON body as `kind`. Raises `RequestError` that names the first field at fault.

    Fractions are `Decimal`s, digit for digit as they were sent; NaN and infinity too, so that the
    field that holds one is named.
    """
    try:
        value = json.loads(
            body, parse_float=Decimal, parse_constant=Decimal, object_pairs_hook=_object
        )
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error!s:.200}") from error
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _refusal(error, value) from error


def _refusal(error: ValidationError, body: object) -> RequestError:
    """Return the refusal of the first field at fault.

    Of a field that may have several shapes each is found at fault; the one whose type the value
    has, says most.
    """
    found = error.errors(include_url=False, include_context=False)
    first = next(
        (each for each in found if each["loc"][:1] == found[0]["loc"][:1] and not _of_type(each)),
        found[0],
    )
    field = ".".join(_path(first["loc"], body, missing=first["type"] == "missing"))
    unknown = first["type"] == "extra_forbidden"
    message = "is not supported here" if unknown else first["msg"]
    return RequestError(f"{field or 'body'}: {message}"[:_MAX_MESSAGE], param=field[:_MAX_FIELD])


def _of_type(error: ErrorDetails) -> bool:
    if error["type"] == "literal_error":
        return not isinstance(error["input"], str)
    return error["type"].endswith("_type")


def _path(loc: tuple[int | str, ...], value: Any, *, missing: bool) -> Iterator[str]:
    """Yield the keys and places in the body: `loc` names the shapes that were tried as well."""
    for number, part in enumerate(loc):
        if isinstance(value, list) if isinstance(part, int) else part in _keys(value):
            value = value[part]
        elif not (missing and number == len(loc) - 1):
            continue
        yield str(part)


def _keys(value: object) -> Collection[str]:
    return value.keys() if isinstance(value, dict) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            field = name[:_MAX_FIELD]
            raise RequestError(f"{field}: the body names this field twice", param=field)
        result[name] = value
    return result
