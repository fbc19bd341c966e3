"""Tool calls in an answer's text, in the formats that chat templates teach models.

Hermes and Qwen write `<tool_call>{"name": …, "arguments": {…}}</tool_call>` anywhere in a text,
Llama 3 makes the whole answer `{"name": …, "parameters": {…}}`. What is not exactly that, by a
name that was offered, stays text.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from inference.engine.grammar import Framed
from registry.text.chat_template import ChatTemplate

HERMES: Final = "hermes"
LLAMA: Final = "llama"
_OPENING: Final = "<tool_call>"
_CLOSING: Final = "</tool_call>"
_PYTHON: Final = "<|python_tag|>"
# Between calls where a model of Llama's format makes several.
_BETWEEN: Final = "; \t\r\n"


@dataclass(frozen=True)
class Call:
    """One call: an id of its own, a function's name, its arguments as the text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Said:
    """What became certain of an answer: text, and the calls after it."""

    text: str = ""
    calls: tuple[Call, ...] = ()


class Reader(Protocol):
    """Tells text and calls of one answer apart, piece by piece."""

    def push(self, text: str) -> Said:
        """Take the next piece; what may begin a call is held back."""

    def finish(self) -> Said:
        """Return what was held back, at the answer's end."""


def format_of(template: ChatTemplate) -> str | None:
    """Return the format a template teaches; None for one that is not known here."""
    if not template.takes_tools or "<function=" in template.source:
        return None
    if _OPENING in template.source and "arguments" in template.source:
        return HERMES
    return LLAMA if '"parameters"' in template.source else None


def reader_of(format: str, names: Collection[str]) -> Reader:
    """Return the reader for one answer of a model that was offered functions of these names."""
    return HermesReader(names) if format == HERMES else LlamaReader(names)


def frames_of(format: str, schemas: Mapping[str, Mapping[str, Any]]) -> Iterable[Framed]:
    """Yield how a call of each function is written; `schemas` are of their arguments."""
    for name, schema in schemas.items():
        if format == HERMES:
            before = f'{_OPENING}\n{{"name": "{name}", "arguments": '
            yield Framed(before, schema, f"}}\n{_CLOSING}")
        else:
            yield Framed(f'{{"name": "{name}", "parameters": ', schema, "}")


class PlainReader:
    """The reader of an answer without tools."""

    def push(self, text: str) -> Said:
        """Return the text as it is."""
        return Said(text)

    def finish(self) -> Said:
        """Return nothing: nothing is held back."""
        return Said()


class HermesReader:
    """Reads calls between tags. White space around a call is no text of the answer."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = ""
        self._space = ""
        self._after_call = False

    def push(self, text: str) -> Said:
        """Take the next piece; what may begin a call is held back."""
        self._held += text
        said = ""
        calls: list[Call] = []
        while (at := self._held.find(_OPENING)) >= 0:
            end = self._held.find(_CLOSING, at)
            if end < 0:
                return Said(said + self._release(at), tuple(calls))
            call = _read_call(self._held[at + len(_OPENING) : end], "arguments", self._names)
            if call is None:
                said += self._release(end + len(_CLOSING))
                continue
            said += self._release(at)
            calls.append(call)
            self._after_call = True
            self._space, self._held = "", self._held[end - at + len(_CLOSING) :]
        said += self._release(len(self._held) - _overlap(self._held, _OPENING))
        return Said(said, tuple(calls))

    def finish(self) -> Said:
        """Return what was held back, at the answer's end."""
        text = self._release(len(self._held))
        space, self._space = self._space, ""
        return Said(text if self._after_call else text + space)

    def _release(self, size: int) -> str:
        """Give out the first `size` held characters, but for white space at their end."""
        text, self._held = self._space + self._held[:size], self._held[size:]
        kept = text.rstrip()
        self._after_call = self._after_call and not kept
        self._space = text[len(kept) :]
        return kept


class LlamaReader:
    """Reads an answer that is nothing but calls; one that begins with anything else is text."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = ""
        self._is_text = False

    def push(self, text: str) -> Said:
        """Take the next piece; an answer that may be a call is held back to its end."""
        if self._is_text:
            return Said(text)
        self._held += text
        begin = self._held.lstrip()
        if not begin or begin[0] == "{" or _PYTHON.startswith(begin[: len(_PYTHON)]):
            return Said()
        self._is_text = True
        text, self._held = self._held, ""
        return Said(text)

    def finish(self) -> Said:
        """Return the calls, or the text that was none."""
        text, self._held = self._held, ""
        calls = self._calls(text.strip().removeprefix(_PYTHON).strip(_BETWEEN))
        return Said(calls=calls) if calls else Said(text)

    def _calls(self, text: str) -> tuple[Call, ...]:
        calls = []
        while text:
            try:
                _, end = json.JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                return ()
            call = _read_call(text[:end], "parameters", self._names)
            if call is None:
                return ()
            calls.append(call)
            text = text[end:].lstrip(_BETWEEN)
        return tuple(calls)


class _NotACallError(ValueError):
    """Text that is no call."""


def _read_call(text: str, arguments: str, names: Collection[str]) -> Call | None:
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.keys() != {"name", arguments}:
        return None
    name, given = value["name"], value[arguments]
    if not isinstance(name, str) or name not in names or not isinstance(given, dict):
        return None
    return Call("call_" + secrets.token_hex(12), name, json.dumps(given, ensure_ascii=False))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _NotACallError
    return dict(pairs)


def _refuse(text: str) -> None:
    raise _NotACallError(text)


def _overlap(text: str, tag: str) -> int:
    """Return how many last characters of `text` begin `tag`."""
    sizes = range(min(len(tag) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(tag[:size])), 0)
