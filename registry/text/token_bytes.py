"""Which bytes of a text a token stands for, also where they are no whole characters.

Decoding cannot tell: half a character decodes to a replacement character. So the bytes follow from
how the file writes tokens: in the letters of byte-level vocabularies, as `<0x0A>` of byte fallback,
with `▁` for a space, or with WordPiece's `##`. Of what a decoder does to a text as a whole nothing
is known here: it may drop the space before the first word.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from registry.text.tokenizer import Tokenizer

_FALLBACK: Final = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE: Final = "\u2581"
# Byte-level vocabularies write these bytes as the character of that number, and the others, in
# their order, as characters from 256 on.
_VISIBLE: Final = (*range(33, 127), *range(161, 173), *range(174, 256))


_known: WeakKeyDictionary[Tokenizer, tuple[bytes, ...]] = WeakKeyDictionary()
_knowing: Final = Lock()


def token_bytes(tokenizer: Tokenizer, rows: int) -> tuple[bytes, ...]:
    """Return the bytes of token ids 0 to `rows` - 1; empty where there is no such token.

    Special tokens have those of their name. Made once for a tokenizer, from any thread.
    """
    with _knowing:
        found = _known.get(tokenizer)
        if found is None or len(found) != rows:
            found = _known[tokenizer] = _read(tokenizer, rows)
        return found


def _read(tokenizer: Tokenizer, rows: int) -> tuple[bytes, ...]:
    read = _reader(tokenizer.decoder_steps())
    added = frozenset(tokenizer.special_tokens)
    found = [b""] * rows
    for token, id in tokenizer.vocabulary().items():
        if id < rows:
            found[id] = _plain(token) if token in added else read(token)
    return tuple(found)


def _reader(steps: tuple[str, ...]) -> Callable[[str], bytes]:
    if "ByteLevel" in steps:
        return _byte_level
    if "WordPiece" in steps:
        return _word_piece
    return _sentence_piece if {"ByteFallback", "Metaspace", "Replace"} & {*steps} else _plain


def _plain(token: str) -> bytes:
    return token.encode()


def _byte_level(token: str) -> bytes:
    try:
        return bytes(_LETTERS[letter] for letter in token)
    except KeyError:
        return token.encode()


def _word_piece(token: str) -> bytes:
    return token[2:].encode() if token.startswith("##") else b" " + token.encode()


def _sentence_piece(token: str) -> bytes:
    byte = _FALLBACK.fullmatch(token)
    return bytes.fromhex(byte[1]) if byte else token.replace(_SPACE, " ").encode()


def _letters() -> dict[str, int]:
    letters = {chr(byte): byte for byte in _VISIBLE}
    others = [byte for byte in range(256) if byte not in _VISIBLE]
    return letters | {chr(256 + number): byte for number, byte in enumerate(others)}


_LETTERS: Final = _letters()
