"""Grammars that an answer must follow: which tokens may come next.

The library is llguidance. Grammars come from callers and are hostile: their size, the work of
reading them and the work of each step are bounded, and what goes over a bound is refused or ends
that answer alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from inference.errors import GenerationError, NodeError, RequestError
from registry.text.token_bytes import token_bytes
from registry.text.tokenizer import Tokenizer

MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
# The library counts work in units of its own, some 50 thousand of them a millisecond.
_LIMITS: Final = LLParserLimits(
    max_items_in_row=1000,
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=20_000,
    max_lexer_states=20_000,
    max_grammar_size=50_000,
    precompute_large_lexemes=False,
    verbose_errors=False,
)
# One way to write each value, so that an answer cannot be filled up with white space. What the
# schema itself says of it (`x-guidance`) does not count.
_WRITING: Final[dict[str, Any]] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}


class Vocabulary:
    """A model's tokens as the library needs them. `rows` is the length of the logits."""

    def __init__(self, tokenizer: Tokenizer, *, rows: int, ends: frozenset[int]) -> None:
        """Read the tokens; takes up to a second for the largest vocabularies.

        Raises `RequestError` for a model that could not end an answer.
        """
        if not ends:
            raise RequestError("this model has no end token, so that no grammar could end")
        self.tokens: Final = token_bytes(tokenizer, rows)
        self.ends: Final = np.array(sorted(ends))
        self.library: Final = LLTokenizer(
            TokenizerWrapper(_Tokens(tokenizer, self.tokens, ends)),
            eos_token=sorted(ends),
            slices=LLTokenizer.json_slices(),
        )


class _Tokens:
    """What the library's wrapper asks of a tokenizer."""

    bos_token_id: int | None = None

    def __init__(
        self, tokenizer: Tokenizer, tokens: tuple[bytes, ...], ends: frozenset[int]
    ) -> None:
        self.eos_token_id = min(ends)
        self.tokens = list(tokens)
        # No text may be made of them; the end tokens come by the grammar's end alone.
        self.special_token_ids = sorted(tokenizer.special_ids() | ends)
        self._tokenizer = tokenizer

    def __call__(self, text: str | bytes) -> list[int]:
        whole = text.decode(errors="replace") if isinstance(text, bytes) else text
        return list(self._tokenizer.encode(whole, add_special=False))


_known: WeakKeyDictionary[Tokenizer, Vocabulary] = WeakKeyDictionary()
_knowing: Final = Lock()


def vocabulary_of(tokenizer: Tokenizer, *, rows: int, ends: frozenset[int]) -> Vocabulary:
    """Return a model's vocabulary, made when it is first asked for."""
    with _knowing:
        found = _known.get(tokenizer)
        if found is None:
            found = _known[tokenizer] = Vocabulary(tokenizer, rows=rows, ends=ends)
        return found


@dataclass(frozen=True)
class Framed:
    """JSON of a schema between two fixed texts."""

    before: str
    schema: Mapping[str, Any]
    after: str


class Grammar:
    """What answers may be; `start` makes the state of one of them."""

    def __init__(self, vocabulary: Vocabulary, text: str, *, field: str) -> None:
        """Read a grammar of the library. Raises `RequestError` that names `field`."""
        self._vocabulary = vocabulary
        try:
            with _contained():
                self._matcher = LLMatcher(vocabulary.library, text, log_level=0, limits=_LIMITS)
            if self._matcher.is_error():
                reason = " ".join(self._matcher.get_error().split())
                raise RequestError(f"{field}: {reason:.300}", param=field)
            # Some that can be read have no answer at all.
            possible = self.start().allowed().any()
        except GenerationError as error:
            raise RequestError(f"{field}: {error.message}", param=field) from error
        if not possible:
            raise RequestError(f"{field}: no answer can follow it", param=field)

    @classmethod
    def of_schema(cls, vocabulary: Vocabulary, schema: Mapping[str, Any], *, field: str) -> Grammar:
        """Return the grammar of JSON that a schema describes."""
        return cls(
            vocabulary, LLMatcher.grammar_from_json_schema(_written(schema, field)), field=field
        )

    @classmethod
    def of_framed(cls, vocabulary: Vocabulary, ways: Iterable[Framed], *, field: str) -> Grammar:
        """Return the grammar of one of several texts that each hold JSON of a schema."""
        rules = [
            f"way{number}: {json.dumps(way.before)} json{number} {json.dumps(way.after)}\n"
            f"json{number}: %json {_written(way.schema, field)}\n"
            for number, way in enumerate(ways)
        ]
        start = " | ".join(f"way{number}" for number in range(len(rules)))
        text = f"start: {start}\n{''.join(rules)}"
        if len(text) > MAX_SCHEMA_BYTES:
            raise RequestError(f"{field}: has more than {MAX_SCHEMA_BYTES} bytes", param=field)
        return cls(vocabulary, LLMatcher.grammar_from_lark(text), field=field)

    def start(self) -> GrammarConstraint:
        """Return the state of an answer that has no token yet. Raises `GenerationError`."""
        with _contained():
            return GrammarConstraint(self._matcher.deep_copy(), self._vocabulary)


@contextmanager
def _contained() -> Iterator[None]:
    """Let whatever the library raises end one answer, and nobody else's.

    A panic of Rust is no `Exception`, and its class cannot be imported.
    """
    try:
        yield
    except (NodeError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # Its own words may hold paths of this machine, and this error is told to the caller.
        raise GenerationError(f"the grammar's library failed: {type(error).__name__}") from error


class GrammarConstraint:
    """The state of one answer: a `Constraint`. The end tokens may come when the grammar may end."""

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._ended = False

    @_contained()
    def allowed(self) -> npt.NDArray[np.bool_]:
        """Return which tokens may come now, shape (rows,).

        Raises `GenerationError` when that takes more work than one step may.
        """
        rows = len(self._vocabulary.tokens)
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.unpackbits(bits, count=rows, bitorder="little").astype(np.bool_)
        self._check()
        mask[self._vocabulary.ends] = self._matcher.is_accepting()
        return mask

    @_contained()
    def accept(self, token: int) -> None:
        """Take the token that came. Raises `GenerationError` for one that may not come."""
        if self._ended:
            raise GenerationError("the grammar's end came before this token")
        if token in self._vocabulary.ends:
            self._ended = True
            if not self._matcher.is_accepting():
                raise GenerationError("the answer ended before its grammar")
        elif not self._matcher.consume_token(token):
            self._check()
            raise GenerationError("a token came that the grammar does not allow")

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = " ".join(self._matcher.get_error().split())
            raise GenerationError(f"the grammar cannot be followed: {reason:.200}")


def _written(schema: Mapping[str, Any], field: str) -> str:
    """Return a caller's schema as JSON. Raises `RequestError` that names `field`."""
    if depth_over(schema, MAX_DEPTH):
        raise RequestError(f"{field}: is nested deeper than {MAX_DEPTH}", param=field)
    try:
        text = json.dumps({**schema, "x-guidance": _WRITING}, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise RequestError(f"{field}: is not JSON", param=field) from error
    if len(text) > MAX_SCHEMA_BYTES:
        raise RequestError(f"{field}: has more than {MAX_SCHEMA_BYTES} bytes", param=field)
    return text


def depth_over(value: object, limit: int) -> bool:
    """Return whether lists and objects are nested deeper than `limit`."""
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
