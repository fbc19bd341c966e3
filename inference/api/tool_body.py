"""Tools in a chat request, and the calls of them in its messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from inference.api.response_format import Description, Identifier, JsonSchema
from inference.api.schemas import Name, StrictBody
from inference.engine.grammar import MAX_DEPTH, depth_over


class Function(StrictBody):
    """What the model may call. `parameters` is a JSON schema of its arguments."""

    name: Identifier
    description: Description | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


class Tool(StrictBody):
    """One tool; only functions are known."""

    type: Literal["function"]
    function: Function

    def plain(self) -> dict[str, Any]:
        """Return it as templates take it."""
        about: dict[str, Any] = {"name": self.function.name}
        if self.function.description is not None:
            about["description"] = self.function.description
        about["parameters"] = self.schema_of_arguments()
        return {"type": "function", "function": about}

    def schema_of_arguments(self) -> dict[str, Any]:
        """Return the schema of the arguments; a function without one takes none."""
        return self.function.parameters or {"type": "object", "properties": {}}


class NamedFunction(StrictBody):
    """The name of a function."""

    name: Identifier


class NamedTool(StrictBody):
    """Demands a call of one tool."""

    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(StrictBody):
    """A function's name and its arguments, the text of a JSON object."""

    name: Identifier
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, text: str) -> str:
        read_arguments(text)
        return text


class ToolCall(StrictBody):
    """A call that an answer made, as the caller sends it back."""

    id: Name
    type: Literal["function"]
    function: CalledFunction

    def plain(self) -> dict[str, Any]:
        """Return it as templates take it: the arguments are an object there."""
        function = {
            "name": self.function.name,
            "arguments": read_arguments(self.function.arguments),
        }
        return {"id": self.id, "type": "function", "function": function}


def read_arguments(text: str) -> Mapping[str, Any]:
    """Return the arguments of a call. Raises `PydanticCustomError` for what is no JSON object."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _no_arguments() from error
    if not isinstance(value, dict) or depth_over(value, MAX_DEPTH):
        raise _no_arguments()
    return value


def _refuse(_: str) -> NoReturn:
    raise _no_arguments()


def _no_arguments() -> PydanticCustomError:
    return PydanticCustomError("arguments", "Input should be the text of a JSON object")
