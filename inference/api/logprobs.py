"""Log-probabilities in OpenAI's two shapes.

Each token of an answer has one, those of a stop string included; the end token has none. They are
the model's own: at temperature 1, before penalties and grammars. The bytes of a token that is no
whole characters are the token's own, and add up to the text's.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any, Final

from inference.engine.sampling import Choice
from inference.loader import LoadedModel
from registry.text.token_bytes import token_bytes

# What OpenAI's reference writes for a token that is as good as impossible.
_IMPOSSIBLE: Final = -9999.0


class TokenTexts:
    """A model's tokens as text and bytes."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._bytes = token_bytes(loaded.tokenizer, loaded.vocabulary)
        self._ends = loaded.end_ids

    def bytes(self, token: int) -> bytes:
        """Return the bytes that a token stands for."""
        return self._bytes[token]

    def told(self, choices: Iterable[Choice]) -> list[Choice]:
        """Return the choices that are part of an answer's text: not its end token."""
        return [choice for choice in choices if choice.token not in self._ends]


def chat_entries(texts: TokenTexts, choices: Iterable[Choice]) -> list[dict[str, Any]]:
    """Return `logprobs.content` of a chat answer or chunk."""
    return [
        {
            **_entry(texts, choice.token, choice.logprob),
            "top_logprobs": [_entry(texts, token, logprob) for token, logprob in choice.top],
        }
        for choice in texts.told(choices)
    ]


class CompletionLogprobs:
    """Makes `logprobs` of one completion, piece by piece; offsets are in characters of its text."""

    def __init__(self, texts: TokenTexts, *, listed: int) -> None:
        """Tell of the `listed` likeliest tokens beside each; 0 for none."""
        self._texts = texts
        self._listed = listed
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, choices: Iterable[Choice]) -> dict[str, Any]:
        """Return the object for the next tokens."""
        told = self._texts.told(choices)
        return {
            "tokens": [self._name(choice.token) for choice in told],
            "token_logprobs": [_number(choice.logprob) for choice in told],
            "top_logprobs": [self._top(choice) for choice in told] if self._listed else None,
            "text_offset": [self._advance(choice.token) for choice in told],
        }

    def _top(self, choice: Choice) -> dict[str, float]:
        # The token that came stands here too, likely or not.
        listed = (*choice.top, (choice.token, choice.logprob))
        return {self._name(token): _number(logprob) for token, logprob in listed}

    def _name(self, token: int) -> str:
        data = self._texts.bytes(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _advance(self, token: int) -> int:
        data, before = self._texts.bytes(token), self._offset
        self._offset += len(self._decoder.decode(data))
        try:
            # Bytes before it that make no character are told of with it, as one that stands for
            # them.
            return self._offset - len(data.decode())
        except UnicodeDecodeError:
            return before


def joined(pieces: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the object of a whole completion, from those of its pieces."""
    whole: dict[str, Any] = {}
    for piece in pieces:
        for name, items in piece.items():
            whole[name] = None if items is None else (whole.get(name) or []) + items
    return whole


def _entry(texts: TokenTexts, token: int, logprob: float) -> dict[str, Any]:
    data = texts.bytes(token)
    return {
        "token": data.decode(errors="replace"),
        "logprob": _number(logprob),
        "bytes": list(data),
    }


def _number(logprob: float) -> float:
    return max(logprob, _IMPOSSIBLE)
