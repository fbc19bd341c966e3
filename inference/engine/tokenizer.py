"""Text to token ids and back, from the verified bytes of tokenizer.json alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import tokenizers

from inference.errors import LoadRefusedError, RequestError

PATH: Final = "tokenizer.json"
# The tokenizers of the largest vocabularies take 35 MB.
MAX_BYTES: Final = 64 * 1024 * 1024


class Tokenizer:
    """A model's tokenizer. It never cuts or pads: lengths are checked where they are known."""

    def __init__(self, data: bytes, *, rows: int) -> None:
        """Read tokenizer.json; `rows` is the number of rows of the model's embedding.

        Raises `LoadRefusedError` when the file is too large, cannot be read, or has a token id
        that the embedding has no row for.
        """
        if len(data) > MAX_BYTES:
            raise LoadRefusedError(PATH, f"has {len(data)} bytes, more than {MAX_BYTES}")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises nothing more precise
            raise LoadRefusedError(PATH, f"is not a tokenizer: {error!s:.200}") from error
        ids = self._tokenizer.get_vocab(with_added_tokens=True).values()
        if not ids or max(ids) >= rows:
            highest = max(ids, default=-1)
            raise LoadRefusedError(PATH, f"its highest token id is {highest}, the model has {rows}")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, text: str, *, add_special: bool) -> tuple[int, ...]:
        """Return the token ids of `text`; `add_special` adds what the model wants around it.

        Raises `RequestError` for text that is not valid Unicode.
        """
        try:
            return tuple(self._tokenizer.encode(text, add_special_tokens=add_special).ids)
        except (TypeError, UnicodeEncodeError) as error:
            # A lone surrogate is no character, and JSON lets it through.
            raise RequestError("the text is not valid Unicode", param="messages") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
