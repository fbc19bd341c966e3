"""What a response says: the texts in its exact bytes, whole or streamed, chat or completion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_DATA: Final = b"data: "


def said(response: bytes) -> tuple[str, ...] | None:
    """Return each answer's text; None where they are not of plain text, or are no answers."""
    texts: dict[int, str] = {}
    try:
        for body in _bodies(response):
            for choice in body["choices"]:
                text = _text(choice)
                if text is None:
                    return None
                number = int(choice["index"])
                texts[number] = texts.get(number, "") + text
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(texts[number] for number in sorted(texts))


def _bodies(response: bytes) -> Iterator[Any]:
    if not response.startswith(_DATA):
        yield json.loads(response)
        return
    for event in response.split(b"\n\n"):
        if event.startswith(_DATA):
            yield json.loads(event.removeprefix(_DATA))


def _text(choice: Mapping[str, Any]) -> str | None:
    """Return a choice's text, "" of one without any, None of one that calls tools."""
    message = choice.get("message", choice.get("delta", choice))
    if message.get("tool_calls"):
        return None
    text = message.get("content", message.get("text"))
    return "" if text is None else str(text)
