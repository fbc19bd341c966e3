"""From tokens to text, piece by piece: no half characters, and stop strings anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

# What decoding yields for bytes that are not (yet) a character.
_REPLACEMENT: Final = "\ufffd"


class Detokenizer:
    """Turns the tokens of one answer into pieces of text that add up to the decoded answer.

    A piece never ends within a character. Text that may be the beginning of a stop string is held
    back until that is decided; the stop string itself is never given out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._ids: list[int] = []
        # Tokens before `_read` are given out; decoding begins at `_from`, one piece earlier,
        # because some tokenizers decode the first token of a text unlike later ones.
        self._from = 0
        self._read = 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take the next token; return the text that is certain now. Sets `stopped` at a stop."""
        if self.stopped:
            return ""
        self._ids.append(token)
        whole = self._decode(self._ids[self._from :])
        if whole.endswith(_REPLACEMENT):
            return ""
        return self._release(self._advance(whole))

    def finish(self) -> str:
        """Return what was held back; after it no more is pushed."""
        if self.stopped:
            return ""
        text = self._release(self._advance(self._decode(self._ids[self._from :])))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _advance(self, whole: str) -> str:
        known = self._decode(self._ids[self._from : self._read])
        self._from, self._read = self._read, len(self._ids)
        return whole[len(known) :]

    def _release(self, text: str) -> str:
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)], ""
            return text
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        split = len(self._held) - keep
        text, self._held = self._held[:split], self._held[split:]
        return text


def _overlap(text: str, stop: str) -> int:
    """Return how many last characters of `text` begin `stop`."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
