"""A chat as one text: the model's own template, rendered in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from jinja2 import meta
from jinja2.exceptions import TemplateError

from registry.errors import FileRefusedError, TemplateRefusedError
from registry.text.template_meter import scalar
from registry.text.template_sandbox import TemplateSandbox

PATH: Final = "chat_template.jinja"
# The largest published templates have 40 KB; compiling this takes seconds at worst.
MAX_SOURCE_BYTES: Final = 64 * 1024
# Every chat template must be able to render this; it is tried when a model is loaded.
_PROBE: Final = ({"role": "user", "content": "Hello"},)


class ChatTemplate:
    """A template, with the special tokens it may name (`bos_token` and so on)."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], *, path: str = PATH) -> None:
        """Compile `source` of the file `path`, and try it. Raises `FileRefusedError`."""
        self.path: Final = path
        if len(source.encode()) > MAX_SOURCE_BYTES:
            raise FileRefusedError(path, f"is longer than {MAX_SOURCE_BYTES} bytes")
        self._special_tokens = dict(special_tokens)
        self._sandbox = TemplateSandbox()
        self._sandbox.globals["raise_exception"] = _raise_exception
        self.source: Final = source
        try:
            self._template = self._sandbox.compile_metered(source)
            named = meta.find_undeclared_variables(self._sandbox.parse(source))
            self.takes_tools: Final = "tools" in named
            self._render(_PROBE)
        except Exception as error:  # a template's code can raise anything
            raise FileRefusedError(path, f"is refused: {_shown(error)}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Return the prompt for an answer to `messages`, each with `role` and `content`.

        An assistant's message may have `tool_calls`, whose arguments are objects, and a tool's has
        a `tool_call_id`. `tools` are what the model may call, as OpenAI's API writes them; a
        template for which `takes_tools` is false does not show them.

        Raises `TemplateRefusedError` when the template refuses them or they take too much.
        """
        try:
            return self._render(messages, tools)
        except Exception as error:  # a template's code can raise anything
            raise TemplateRefusedError(
                f"the model's chat template refuses these messages: {_shown(error)}"
            ) from error

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        variables: dict[str, Any] = {
            **self._special_tokens,
            "messages": [dict(message) for message in messages],
            "tools": [dict(tool) for tool in tools] if tools else None,
            "documents": None,
            "add_generation_prompt": True,
        }
        return self._sandbox.render(self._template, variables)


class _RefusedByTemplateError(TemplateError):
    """What a template itself refuses, by calling `raise_exception`."""


def _raise_exception(message: object) -> NoReturn:
    raise _RefusedByTemplateError(scalar(message)[:200])


def _shown(error: Exception) -> str:
    return f"{error!s:.200}" or type(error).__name__
