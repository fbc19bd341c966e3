"""What a model reads and writes, from the verified bytes of its small files alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.errors import FileRefusedError
from registry.text.chat_template import PATH as TEMPLATE
from registry.text.chat_template import ChatTemplate
from registry.text.special_tokens import (
    CONFIG,
    GENERATION,
    TOKENIZER_CONFIG,
    check_special_tokens,
    template_tokens,
)
from registry.text.strict_json import parse_object
from registry.text.tokenizer import PATH as TOKENIZER
from registry.text.tokenizer import Tokenizer

__all__ = [
    "CONFIG",
    "GENERATION",
    "TEXT_FILES",
    "TOKENIZER_CONFIG",
    "ModelText",
    "check_one_template",
    "read_model_text",
]

# All that is read here.
TEXT_FILES: Final = (TEMPLATE, CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG)
# Where other readers look for templates: folders of several, and the file of older processors.
_OTHER_TEMPLATE: Final = re.compile(r".+\.jinja2?|(.+/)?chat_template[^/]*\.json")


@dataclass(frozen=True, eq=False)
class ModelText:
    """A model's tokenizer, and its one chat template where it has one."""

    tokenizer: Tokenizer
    template: ChatTemplate | None


def read_model_text(files: Mapping[str, bytes], *, rows: int | None) -> ModelText:
    """Read the files of `TEXT_FILES` that a model has; `rows` is the height of its embedding.

    Raises `FileRefusedError` naming file and rule.
    """
    if TOKENIZER not in files:
        raise FileRefusedError(TOKENIZER, "is missing")
    about = _json(files, TOKENIZER_CONFIG)
    tokenizer = Tokenizer(files[TOKENIZER], rows=rows)
    check_special_tokens(
        tokenizer, about, {path: _json(files, path) for path in (CONFIG, GENERATION)}
    )
    return ModelText(tokenizer, _template(files, about))


def check_one_template(paths: Iterable[str]) -> None:
    """Raise `FileRefusedError` for a file that another reader could take for the template."""
    for path in sorted(paths):
        if path != TEMPLATE and _OTHER_TEMPLATE.fullmatch(path.lower()):
            raise FileRefusedError(path, f"may be a second chat template beside {TEMPLATE}")


def _json(files: Mapping[str, bytes], path: str) -> dict[str, Any]:
    return parse_object(files[path], path) if path in files else {}


def _template(files: Mapping[str, bytes], about: Mapping[str, Any]) -> ChatTemplate | None:
    inline = about.get("chat_template")
    if inline is not None and not isinstance(inline, str):
        raise FileRefusedError(TOKENIZER_CONFIG, "has several chat templates, not one")
    if TEMPLATE not in files:
        tokens = template_tokens(about)
        return None if inline is None else ChatTemplate(inline, tokens, path=TOKENIZER_CONFIG)
    if inline is not None:
        # Which of them is used would be the reader's choice.
        raise FileRefusedError(
            TOKENIZER_CONFIG,
            f"has a chat template, and so has {TEMPLATE}: a model has one",
            hint=f"Remove chat_template from {TOKENIZER_CONFIG}.",
        )
    try:
        source = files[TEMPLATE].decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileRefusedError(TEMPLATE, "is not UTF-8") from error
    return ChatTemplate(source, template_tokens(about))
