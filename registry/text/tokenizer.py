"""Text to token ids and back, from the verified bytes of tokenizer.json alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import tokenizers

from registry.errors import FileRefusedError, TemplateRefusedError
from registry.text.tokenizer_file import check_tokenizer_file
from registry.text.tokenizer_steps import PATH

__all__ = ["MAX_CHARACTERS", "PATH", "Tokenizer"]

# No context takes a text of this length, and encoding it takes a few seconds at worst.
MAX_CHARACTERS: Final = 1024 * 1024
# The library counts tokens in 32 bits.
_MAX_ID: Final = 2**32 - 1


class Tokenizer:
    """A model's tokenizer. It never cuts or pads: lengths are checked where they are known."""

    path: Final = PATH

    def __init__(self, data: bytes, *, rows: int | None) -> None:
        """Read tokenizer.json; `rows` is the number of rows of the model's embedding, if known.

        Raises `FileRefusedError` for a file that `check_tokenizer_file` refuses or the library
        cannot read, and for a token id that the embedding has no row for.
        """
        tokens = check_tokenizer_file(data)
        highest = max(tokens.values())
        if rows is not None and highest >= rows:
            raise FileRefusedError(PATH, f"its highest token id is {highest}, the model has {rows}")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        except BaseException as error:
            _check_library_error(error)
            raise FileRefusedError(PATH, f"is not a tokenizer: {error!s:.200}") from error
        # It reads the vocabulary as it is, but gives added tokens the ids that come next.
        added = self._tokenizer.get_added_tokens_decoder()
        same = all(tokens.get(token.content) == id for id, token in added.items())
        if not same or self._tokenizer.get_vocab_size(with_added_tokens=True) != len(tokens):
            raise FileRefusedError(PATH, "has tokens that the library numbers otherwise")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The texts that are tokens wherever they stand, in the order of their ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        return tuple(added[id].content for id in sorted(added))

    def find(self, token: str) -> int | None:
        """Return a token's id, or None where there is no such token."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def knows(self, id: int) -> bool:
        """Return whether an id is one of a token."""
        return id <= _MAX_ID and self._tokenizer.id_to_token(id) is not None

    def vocabulary(self) -> dict[str, int]:
        """Return all tokens as the file writes them, with their ids; added ones included."""
        return dict(self._tokenizer.get_vocab(with_added_tokens=True))

    def special_ids(self) -> frozenset[int]:
        """Return the ids of the tokens that `decode` leaves out."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(id for id, token in added.items() if token.special)

    def decoder_steps(self) -> tuple[str, ...]:
        """Return the kinds of the steps that make a text of tokens, in their order."""
        decoder = self._tokenizer.decoder
        if decoder is None:
            return ()
        # The library shows a step's kind nowhere else.
        step = json.loads(decoder.__getstate__())
        steps = step["decoders"] if step["type"] == "Sequence" else [step]
        return tuple(str(each["type"]) for each in steps)

    def encode(self, text: str, *, add_special: bool) -> tuple[int, ...]:
        """Return the token ids of `text`; `add_special` adds what the model wants around it.

        Raises `TemplateRefusedError` for text that is not valid Unicode, longer than 1 Mi
        characters, or more than the library can take.
        """
        if len(text) > MAX_CHARACTERS:
            raise TemplateRefusedError(
                f"the text has {len(text)} characters, more than {MAX_CHARACTERS}"
            )
        try:
            return tuple(self._tokenizer.encode(text, add_special_tokens=add_special).ids)
        except (TypeError, UnicodeEncodeError) as error:
            # A lone surrogate is no character, and JSON lets it through.
            raise TemplateRefusedError("the text is not valid Unicode") from error
        except BaseException as error:
            _check_library_error(error)
            raise TemplateRefusedError("the tokenizer failed on the text") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def _check_library_error(error: BaseException) -> None:
    """Raise what is none of the library's errors again.

    A failure in its native code comes as a `PanicException`, which is no `Exception` and would end
    the thread; it has no module to import it from.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
