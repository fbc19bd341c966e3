"""Body of `POST /v1/chat/completions` (OpenAI's Chat Completions API reference)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from inference.api.response_format import ResponseFormat, schema_of
from inference.api.sampled_body import Limit, SampledBody
from inference.api.schemas import Name, StrictBody
from inference.api.tool_body import NamedTool, Tool, ToolCall, ToolChoice
from inference.engine.sampling import MAX_TOP_LOGPROBS
from inference.errors import RequestError

# Defaults and limits of OpenAI's reference.
DEFAULT_MAX_TOKENS: Final = 256
MAX_MESSAGES: Final = 1024
MAX_TOOLS: Final = 128
MAX_CALLS: Final = 64


class TextPart(StrictBody):
    """One piece of a message's content; only text is sold here."""

    type: Literal["text"]
    text: str


class Message(StrictBody):
    """One turn of the conversation. `refusal` is always null in our own answers."""

    role: Literal["system", "user", "assistant", "developer", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=MAX_CALLS)] | None = None
    tool_call_id: Name | None = None
    refusal: None = None

    @model_validator(mode="after")
    def _check_role(self) -> Message:
        if self.tool_calls is not None and self.role != "assistant":
            raise PydanticCustomError("role", "Only an assistant's message has tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise PydanticCustomError("role", "A tool's message, and no other, has a tool_call_id")
        if self.content is None and self.tool_calls is None:
            raise PydanticCustomError("content", "A message needs content")
        return self

    def plain(self) -> dict[str, Any]:
        """Return the message as chat templates take it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        found: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": text,
        }
        if self.tool_calls is not None:
            found["tool_calls"] = [call.plain() for call in self.tool_calls]
        if self.tool_call_id is not None:
            found["tool_call_id"] = self.tool_call_id
        return found


class ChatRequest(SampledBody):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None

    @model_validator(mode="after")
    def _check_together(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise _refused("top_logprobs", "needs logprobs: true")
        if len({self.max_tokens, self.max_completion_tokens} - {None}) > 1:
            raise _refused("max_tokens", "is another number than max_completion_tokens")
        return self

    @model_validator(mode="after")
    def _check_tools(self) -> ChatRequest:
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) != len(names):
            raise _refused("tools", "two functions have the same name")
        if self.tool_choice not in (None, "none") and not names:
            raise _refused("tool_choice", "there are no tools to choose of")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise _refused("tool_choice", "names no function of tools")
        for number, tool in enumerate(self.tools or ()):
            if tool.function.strict and not self.demanded_tools():
                name = f"tools.{number}.function.strict"
                raise _refused(name, "is only possible where tool_choice demands a call")
        if self.offered_tools() and schema_of(self.response_format) is not None:
            raise _refused("response_format", "is not supported together with tools")
        return self

    def offered_tools(self) -> list[Tool]:
        """Return the tools that the model is told of."""
        return [] if self.tool_choice == "none" else list(self.tools or ())

    def demanded_tools(self) -> list[Tool]:
        """Return the tools of which one must be called; none where the model may choose."""
        if isinstance(self.tool_choice, NamedTool):
            name = self.tool_choice.function.name
            return [tool for tool in self.tools or () if tool.function.name == name]
        return list(self.tools or ()) if self.tool_choice == "required" else []

    def limit(self) -> int:
        """Return the most tokens one answer may have."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def limit_field(self) -> str:
        """Return the name of the field that sets the limit."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    def listed(self) -> int | None:
        """Return how many of the likeliest tokens are told of; None without log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


def _refused(field: str, rule: str) -> RequestError:
    return RequestError(f"{field}: {rule}", param=field)
