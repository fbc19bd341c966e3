from __future__ import annotations

import string
import unicodedata

import pytest

from registry.errors import FileRefusedError
from registry.hashing.lookalikes import seen
from registry.hashing.walk import check_paths


@pytest.mark.parametrize(
    ("plain", "posing"),
    [
        ("config.json", "\N{CYRILLIC SMALL LETTER ES}onfig.json"),
        ("README.md", "R\N{CYRILLIC CAPITAL LETTER IE}ADME.md"),
        # In lower case they look different: the capital is what poses.
        ("TENSORS.md", "TE\N{GREEK CAPITAL LETTER NU}SORS.md"),
        ("model-1.safetensors", "m\N{GREEK SMALL LETTER OMICRON}del-1.safetensors"),
        ("model-1.safetensors", "model\N{HYPHEN}1.safetensors"),
        ("a/notes.txt", "a/n\N{ARMENIAN SMALL LETTER OH}tes.txt"),
        ("COPY.txt", "\N{CYRILLIC SMALL LETTER ES}\N{CYRILLIC SMALL LETTER O}py.txt"),
    ],
)
def test_two_names_that_look_alike_are_refused(plain: str, posing: str) -> None:
    assert unicodedata.normalize("NFKC", plain.casefold()) != posing.casefold()
    for paths in ((plain, posing), (posing, plain)):
        with pytest.raises(FileRefusedError, match="looks like the same name"):
            check_paths(paths)


def test_folders_that_look_alike_are_refused() -> None:
    with pytest.raises(FileRefusedError, match="is in the same folder as"):
        check_paths(("data/1.txt", "d\N{CYRILLIC SMALL LETTER A}ta/2.txt"))


def test_names_of_one_script_are_free() -> None:
    check_paths(
        ("отзывы.txt", "κριτικές.txt", "reviews.txt", "評論.txt", "0.txt", "O.txt", "l.txt")
    )


def test_plain_text_is_seen_as_it_is() -> None:
    assert seen(string.printable) == string.printable
