"""Grammars: a document's canonical text as one pattern, made from its fields.

A document has few spellings: keys stand in order, numbers and hex have one form each. So one match
shows that a text is canonical and within its limits, in a tenth of the time that parsing, checking
and writing it again take. A grammar takes a subset of what the strict parser takes: escapes,
letters beyond ASCII and numbers near their limit do not match. Whoever reads with it lets the
parser decide about what does not match; what matches, the parser takes too, to the same values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar

from inference.audit.document import (
    AddressKind,
    AmountKind,
    BytesKind,
    CountKind,
    Document,
    FormatError,
    Kind,
    NestedKind,
    TextKind,
)
from registry.errors import WeightproofError

DocumentT = TypeVar("DocumentT", bound=Document)
Load: TypeAlias = Callable[[str], Any]

# What 2^53 - 1 and 2^256 - 1 surely bound; the few numbers beyond are the parser's.
COUNT: Final = r"(0|[1-9][0-9]{0,14}|[1-8][0-9]{15})"
_AMOUNT: Final = r'"(0|[1-9][0-9]{0,76})"'
_ADDRESS: Final = r'"(0x[0-9a-fA-F]{40})"'
_PLAIN: Final = r"[ !#-\[\]-~]"
_PRINTABLE: Final = "[ -~]*"
# A pattern may stand in the grammar if it is made of these and no class holds a forbidden one.
_INERT: Final = re.compile(r"(?:[A-Za-z0-9_|:,{}()?*+-]|\\\.|\[[A-Za-z0-9_-]+\])*", re.ASCII)
_CLASS: Final = re.compile(r"\[[^\]]*\]")
_FORBIDDEN: Final = '"\\\n\r\t\0\x1f\x7f\x80é'


class NoGrammarError(WeightproofError):
    """A document has a kind of field that no pattern stands for here."""


@dataclass
class _Part:
    """One document of the nested ones: which group of the match each of its fields is."""

    document: type[Document]
    fields: list[tuple[str, int, Load]] = field(default_factory=list)
    nested: list[tuple[str, _Part]] = field(default_factory=list)

    def build(self, groups: tuple[str, ...]) -> Any:
        # The match has shown what a document checks at birth.
        made = object.__new__(self.document)
        values = made.__dict__
        for name, at, load in self.fields:
            values[name] = load(groups[at])
        for name, part in self.nested:
            values[name] = part.build(groups)
        return made


class Grammar(Generic[DocumentT]):
    """The pattern of one document. Raises `NoGrammarError` when it has none."""

    def __init__(self, document: type[DocumentT]) -> None:
        self._count = 0
        self.source, self._part = self._of(document)
        self.groups: Final = self._count
        self._pattern = re.compile(self.source, re.ASCII)

    def match(self, text: str) -> DocumentT | None:
        """Return the document whose canonical text this is, or None: let the parser decide."""
        found = self._pattern.fullmatch(text)
        return None if found is None else self.build(found.groups())

    def build(self, groups: tuple[str, ...]) -> DocumentT | None:
        """Return the document that a match's groups make, for reading only: it cannot be written.

        None when an address is not spelled by its checksum.
        """
        try:
            built: DocumentT = self._part.build(groups)
        except FormatError:
            return None
        return built

    def _of(self, document: type[Document]) -> tuple[str, _Part]:
        part = _Part(document)
        named = {key: (name, kind) for name, (key, kind) in document.FIELDS.items()}
        rows = []
        for key in sorted([*named, "format"] if document.FORMAT else named):
            if key == "format":
                rows.append(f'"format":"{re.escape(document.FORMAT)}"')
            else:
                rows.append(f'"{key}":{self._value(part, *named[key])}')
        return r"\{" + ",".join(rows) + r"\}", part

    def _value(self, part: _Part, name: str, kind: Kind) -> str:
        if type(kind) is NestedKind:
            source, inner = self._of(kind.document)
            part.nested.append((name, inner))
            return source
        source, load = _leaf(kind)
        part.fields.append((name, self._count, load))
        self._count += 1
        return source


def _leaf(kind: Kind) -> tuple[str, Load]:
    """Return the pattern of one value, with one group, and what makes the value of its text."""
    if type(kind) is CountKind:
        return COUNT, int
    if type(kind) is AmountKind:
        return _AMOUNT, int
    if type(kind) is BytesKind:
        return f'"0x([0-9a-f]{{{2 * kind.size}}})"', bytes.fromhex
    if type(kind) is AddressKind:
        return _ADDRESS, lambda text: kind.load(text, "")
    if type(kind) is TextKind and kind.pattern == _PRINTABLE:
        return f'"({_PLAIN}{{0,{kind.limit}}})"', str
    if type(kind) is TextKind and _is_inert(kind.pattern):
        # The groups within a pattern must not count.
        inner = re.sub(r"\((?!\?)", "(?:", kind.pattern)
        return f'"(?=[^"]{{0,{kind.limit}}}")({inner})"', str
    raise NoGrammarError(f"{kind!r:.60} has no pattern")


def _is_inert(pattern: str) -> bool:
    if not _INERT.fullmatch(pattern):
        return False
    classes = [re.compile(found, re.ASCII) for found in _CLASS.findall(pattern)]
    return not any(one.fullmatch(char) for one in classes for char in _FORBIDDEN)
