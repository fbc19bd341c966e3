"""Golden vectors: what a model's tokenizer and template made of fixed texts when it was registered.

They stand in the manifest. Whoever loads the model makes them again, so that another version of a
library, or a file that means something else than it meant to its publisher, is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from registry.errors import FileRefusedError, ManifestError, TemplateRefusedError
from registry.fields import Fields
from registry.manifest_rules import require
from registry.signing.canonical import JsonObject, JsonValue, encode
from registry.text.probe import CHATS, TEXTS, Chat

if TYPE_CHECKING:
    from registry.text.chat_template import ChatTemplate
    from registry.text.tokenizer import Tokenizer

# Of each kind. A manifest is one block of 1 MiB, most of which the tensors need.
MAX_VECTORS: Final = 64
MAX_BYTES: Final = 64 * 1024
# What registration fills of that: texts first, then special tokens, then conversations.
_SHARE_BYTES: Final = 20 * 1024
# Special tokens come many to a text, so that some thousand of them take few vectors.
_SPECIAL_TEXTS: Final = 32
# Token ids are 32-bit numbers in every tokenizer.
_MAX_ID: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class TextVector:
    """One text: its token ids, the same with what the model wants around it, and what they say.

    `decoded` is the text of `ids`, without special tokens.
    """

    text: str
    ids: tuple[int, ...]
    wrapped: tuple[int, ...]
    decoded: str

    @classmethod
    def read(cls, value: JsonValue, where: str) -> TextVector:
        """Read one from JSON."""
        fields = Fields(value, where)
        found = cls(
            text=fields.text("text"),
            ids=_read_ids(fields, "ids"),
            wrapped=_read_ids(fields, "wrapped"),
            decoded=fields.text("decoded"),
        )
        fields.end()
        return found

    def to_json(self) -> JsonObject:
        """Return it as a JSON object."""
        return {
            "text": self.text,
            "ids": list(self.ids),
            "wrapped": list(self.wrapped),
            "decoded": self.decoded,
        }


@dataclass(frozen=True, slots=True)
class ChatVector:
    """One conversation of (role, content), and its prompt; None where the template refuses it."""

    messages: tuple[tuple[str, str], ...]
    rendered: str | None

    @classmethod
    def read(cls, value: JsonValue, where: str) -> ChatVector:
        """Read one from JSON."""
        fields = Fields(value, where)
        messages = []
        for at, item in fields.items("messages"):
            message = Fields(item, at)
            messages.append((message.text("role"), message.text("content")))
            message.end()
        found = cls(tuple(messages), fields.optional_text("rendered"))
        fields.end()
        return found

    def to_json(self) -> JsonObject:
        """Return it as a JSON object."""
        return {
            "messages": [{"role": role, "content": content} for role, content in self.messages],
            **({} if self.rendered is None else {"rendered": self.rendered}),
        }


@dataclass(frozen=True, slots=True)
class Golden:
    """The vectors of one model: at least one text; conversations where it has a template."""

    texts: tuple[TextVector, ...]
    chats: tuple[ChatVector, ...]

    def __post_init__(self) -> None:
        _check_number(self.texts, "texts", at_least=1)
        _check_number(self.chats, "chats", at_least=0)
        size = len(encode(self.to_json()))
        require(size <= MAX_BYTES, f"golden has {size} bytes, more than {MAX_BYTES}")

    @classmethod
    def read(cls, fields: Fields) -> Golden:
        """Read them from JSON."""
        found = cls(
            texts=tuple(TextVector.read(item, at) for at, item in fields.items("texts")),
            chats=tuple(ChatVector.read(item, at) for at, item in fields.items("chats")),
        )
        fields.end()
        return found

    def to_json(self) -> JsonObject:
        """Return them as a JSON object."""
        return {
            "texts": [vector.to_json() for vector in self.texts],
            "chats": [vector.to_json() for vector in self.chats],
        }


Vector = TypeVar("Vector", TextVector, ChatVector)


def make_golden(tokenizer: Tokenizer, template: ChatTemplate | None) -> Golden:
    """Return the vectors of a tokenizer and a template, to be written into a manifest.

    What does not fit is left out: the last special tokens of a model that has very many, the last
    conversations of a template that writes very much.
    """
    plain = _fitting(_text_vector(text, tokenizer) for text in TEXTS)
    special = _fitting(
        _text_vector(text, tokenizer) for text in _special_texts(tokenizer.special_tokens)
    )
    chats = [] if template is None else _fitting(_chat_vector(chat, template) for chat in CHATS)
    return Golden((*plain, *special), tuple(chats))


def check_golden(golden: Golden, tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
    """Make the vectors again and compare. Raises `FileRefusedError` for the first that differs."""
    for number, text in enumerate(golden.texts):
        made = _text_vector(text.text, tokenizer)
        for what in ("ids", "wrapped", "decoded"):
            if getattr(made, what) != getattr(text, what):
                raise FileRefusedError(
                    tokenizer.path,
                    f"golden text {number} ({text.text!r:.60}) has other {what} than at "
                    "registration",
                )
    if golden.chats and template is None:
        raise FileRefusedError("chat_template.jinja", "is missing, and had golden conversations")
    for number, chat in enumerate(golden.chats):
        if template is not None and _chat_vector(chat.messages, template) != chat:
            raise FileRefusedError(
                template.path, f"golden conversation {number} is rendered unlike at registration"
            )


def _text_vector(text: str, tokenizer: Tokenizer) -> TextVector:
    ids = tokenizer.encode(text, add_special=False)
    wrapped = tokenizer.encode(text, add_special=True)
    return TextVector(text, ids, wrapped, tokenizer.decode(ids))


def _chat_vector(chat: Chat, template: ChatTemplate) -> ChatVector:
    messages = [{"role": role, "content": content} for role, content in chat]
    try:
        return ChatVector(chat, template.render(messages))
    except TemplateRefusedError:
        return ChatVector(chat, None)


def _special_texts(tokens: Sequence[str]) -> Iterator[str]:
    """Yield texts that hold all tokens between letters, where they must be found."""
    step = -(-len(tokens) // _SPECIAL_TEXTS) or 1
    for start in range(0, len(tokens), step):
        yield "".join(f"a{token} b" for token in tokens[start : start + step])


def _fitting(vectors: Iterable[Vector]) -> list[Vector]:
    """Return the first of the vectors that fit, and always one."""
    found: list[Vector] = []
    size = 0
    for vector in vectors:
        size += len(encode(vector.to_json()))
        if found and size > _SHARE_BYTES:
            break
        found.append(vector)
    return found


def _check_number(vectors: Sequence[object], what: str, *, at_least: int) -> None:
    require(
        at_least <= len(vectors) <= MAX_VECTORS,
        f"golden.{what} has {len(vectors)} vectors, not {at_least} to {MAX_VECTORS}",
    )


def _read_ids(fields: Fields, name: str) -> tuple[int, ...]:
    found = []
    for where, item in fields.items(name):
        if not isinstance(item, int) or not 0 <= item <= _MAX_ID:
            raise ManifestError(f"{where} is not a token id")
        found.append(item)
    return tuple(found)
