"""Row 22: GGUF files. None is parsed here, so whatever is wrong in one can do nothing.

Each file is built byte by byte after the published layout: magic, version, number of tensors,
number of keys, keys with typed values, tensor infos, alignment, data.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from gguf import GGUFReader

from tests.attacks.forgery import honest_tensors
from tests.attacks.hall import Hall
from tests.attacks.safetensors_bytes import WEIGHTS

STRING, ARRAY, UINT32, BOOL = 8, 9, 4, 7
EVIL = "{{ ''.__class__.__mro__[1].__subclasses__() }}"


def text(value: str, *, length: int | None = None) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data) if length is None else length) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(
    name: str, *, shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0, dims: int = 0
) -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    begin = text(name) + struct.pack("<I", dims or len(shape))
    return begin + sizes + struct.pack("<IQ", kind, offset)


ARCHITECTURE = pair("general.architecture", STRING, text("llama"))
TEMPLATE = pair("tokenizer.chat_template", STRING, text("{{ messages[0].content }}"))


def gguf(
    *pairs: bytes,
    magic: bytes = b"GGUF",
    version: int = 3,
    tensors: tuple[bytes, ...] = (tensor("output_norm.weight"),),
    tensor_count: int | None = None,
    pair_count: int | None = None,
    order: str = "<",
    data: bytes = bytes(128),
) -> bytes:
    """Return a file; counts may lie."""
    pairs = pairs or (ARCHITECTURE,)
    counts = struct.pack(
        f"{order}IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(pairs) if pair_count is None else pair_count,
    )
    begin = magic + counts + b"".join(pairs) + b"".join(tensors)
    return begin + bytes(-len(begin) % 32) + data


FILES: dict[str, bytes] = {
    "a sound one": gguf(ARCHITECTURE, TEMPLATE),
    "bad magic": gguf(magic=b"GGUX"),
    "magic of older formats": gguf(magic=b"ggjt"),
    "magic of the oldest format": gguf(magic=b"lmgg"),
    "magic in lower case": gguf(magic=b"gguf"),
    "magic after a byte order mark": b"\xef\xbb\xbf" + gguf(),
    "no magic": gguf(magic=b""),
    "version 0": gguf(version=0),
    "version 1": gguf(version=1),
    "version 2^31": gguf(version=2**31),
    "big-endian": gguf(order=">"),
    "huge number of keys": gguf(pair_count=2**63),
    "largest number of keys": gguf(pair_count=2**64 - 1),
    "huge number of tensors": gguf(tensor_count=2**62),
    "key longer than the file": gguf(text("x", length=2**40)),
    "key whose length overflows": gguf(text("x", length=2**64 - 1)),
    "value longer than the file": gguf(pair("k", STRING, text("x", length=2**63 - 1))),
    "array of 2^61 texts": gguf(pair("k", ARRAY, struct.pack("<IQ", STRING, 2**61))),
    "array of arrays": gguf(
        pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1) * 10_000 + struct.pack("<IQ", UINT32, 0))
    ),
    "array of an unknown type": gguf(pair("k", ARRAY, struct.pack("<IQ", 99, 1))),
    "value of an unknown type": gguf(pair("k", 2**31, b"")),
    "a truth value that is neither": gguf(pair("k", BOOL, b"\x07")),
    "the same key twice": gguf(ARCHITECTURE, ARCHITECTURE),
    "alignment 0": gguf(pair("general.alignment", UINT32, struct.pack("<I", 0))),
    "alignment 1": gguf(pair("general.alignment", UINT32, struct.pack("<I", 1))),
    "alignment 2^31": gguf(pair("general.alignment", UINT32, struct.pack("<I", 2**31))),
    "alignment that is a text": gguf(pair("general.alignment", STRING, text("32"))),
    "tensor beyond the file": gguf(tensors=(tensor("x", offset=2**62),)),
    "tensor at an odd offset": gguf(tensors=(tensor("x", offset=7),)),
    "tensors over each other": gguf(tensors=(tensor("x"), tensor("y"))),
    "tensor whose size overflows": gguf(tensors=(tensor("x", shape=(2**32, 2**32, 2**8)),)),
    "tensor of 2^32 - 1 dimensions": gguf(tensors=(tensor("x", dims=2**32 - 1),)),
    "tensor of an unknown type": gguf(tensors=(tensor("x", kind=255),)),
    "tensor named as a path": gguf(tensors=(tensor("../../etc/x"),)),
    "an evil template": gguf(pair("tokenizer.chat_template", STRING, text(EVIL))),
    "a good template first": gguf(
        TEMPLATE, pair("tokenizer.chat_template", STRING, text(EVIL)), ARCHITECTURE
    ),
    "a template for tools": gguf(
        TEMPLATE, pair("tokenizer.chat_template.tool_use", STRING, text(EVIL))
    ),
    "cut off": gguf()[:20],
    "only magic": b"GGUF",
}
NAMES = ["model.gguf", "MODEL.GGUF", "model-00001-of-00002.gguf", "old/model.gguf", "model.ggml"]


def test_the_sound_one_is_read_by_the_formats_own_library(tmp_path: Path) -> None:
    """Else the others would prove nothing."""
    (tmp_path / "model.gguf").write_bytes(FILES["a sound one"])
    found = GGUFReader(tmp_path / "model.gguf")
    assert [tensor.name for tensor in found.tensors] == ["output_norm.weight"]
    assert "tokenizer.chat_template" in found.fields


@pytest.mark.parametrize("what", FILES)
def test_a_gguf_is_refused_by_its_name(hall: Hall, folder: Path, what: str) -> None:
    (folder / "model.gguf").write_bytes(FILES[what])
    hall.register_refuses(folder, "model.gguf: files of kind .gguf are refused")
    hall.refuses(hall.forge(folder), "files of kind .gguf are refused", path="model.gguf")


@pytest.mark.parametrize("name", NAMES)
def test_a_gguf_is_refused_by_any_spelling_of_its_name(hall: Hall, folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(FILES["a sound one"])
    hall.refuses(hall.forge(folder), r"files of kind .gg\w+ are refused", path=name)


@pytest.mark.parametrize("what", FILES)
def test_a_gguf_in_place_of_the_weights_is_refused(hall: Hall, folder: Path, what: str) -> None:
    tensors = honest_tensors(folder)
    (folder / WEIGHTS).write_bytes(FILES[what] + (folder / WEIGHTS).read_bytes())
    hall.register_refuses(folder, f"{WEIGHTS}: its (safetensors )?header")
    hall.refuses(hall.forge(folder, tensors=tensors), "its (safetensors )?header", path=WEIGHTS)


@pytest.mark.parametrize("name", ["README.md", "vocab.json", "chat_template.jinja", "config.json"])
@pytest.mark.parametrize("what", [what for what in FILES if what != "only magic"])
def test_a_gguf_under_the_name_of_a_text_is_refused(
    hall: Hall, folder: Path, name: str, what: str
) -> None:
    (folder / name).write_bytes(FILES[what])
    refusal = hall.refuses_here(
        hall.forge(folder), r"is a GGUF file|is not|is refused|rendered unlike", path=name
    )
    assert refusal.path == name


def test_a_model_of_nothing_but_a_gguf_is_refused(hall: Hall, folder: Path) -> None:
    tensors = honest_tensors(folder)
    for path in folder.iterdir():
        path.unlink()
    (folder / "model.gguf").write_bytes(FILES["a good template first"])
    hall.register_refuses(folder, "model.gguf: files of kind .gguf are refused")
    for tensor_ in tensors:
        tensor_["file"] = "model.gguf"
    case = hall.forge(folder, tensors=tensors, headers=None, golden=None)
    hall.refuses(case, "model.gguf|headers")
