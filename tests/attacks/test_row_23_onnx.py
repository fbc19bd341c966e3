"""Row 23: ONNX graphs. None is parsed here, so whatever is in one can do nothing.

Each file is a real ModelProto, written field by field in the wire format of protocol buffers.
Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.attacks.forgery import honest_tensors
from tests.attacks.hall import Hall
from tests.attacks.safetensors_bytes import WEIGHTS

EXTERNAL = 1
FLOAT = 1


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def data(field: int, value: bytes | str, *, length: int | None = None) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(raw) if length is None else length) + raw


def node(op: str, *, domain: str = "", attributes: bytes = b"") -> bytes:
    return data(1, "x") + data(2, "y") + data(4, op) + data(7, domain) + attributes


def external(location: str, *, offset: str = "0", length: str = "4") -> bytes:
    """A tensor whose bytes are said to be in another file."""
    entries = {"location": location, "offset": offset, "length": length}
    info = b"".join(data(13, data(1, key) + data(2, value)) for key, value in entries.items())
    return number(1, 1) + number(2, FLOAT) + data(8, "w") + info + number(14, EXTERNAL)


def onnx(
    *nodes: bytes, tensors: tuple[bytes, ...] = (), domain: str = "", functions: bytes = b""
) -> bytes:
    graph = b"".join(data(1, each) for each in nodes or (node("Identity"),)) + data(2, "graph")
    graph += b"".join(data(5, each) for each in tensors)
    opset = data(8, data(1, domain) + number(2, 21))
    return number(1, 10) + data(2, "attacker") + data(7, graph) + opset + functions


def nested(depth: int) -> bytes:
    """An If in an If in an If."""
    graph = data(1, node("Identity"))
    for _ in range(depth):
        attribute = data(5, data(1, "then_branch") + data(6, graph) + number(20, 5))
        graph = data(1, node("If", attributes=attribute))
    return number(1, 10) + data(7, graph)


FILES: dict[str, bytes] = {
    "a sound one": onnx(),
    "data outside the folder": onnx(tensors=(external("../../../../etc/passwd"),)),
    "data at an absolute path": onnx(tensors=(external("/etc/passwd"),)),
    "data on another machine": onnx(tensors=(external("https://evil.example/weights"),)),
    "data under a device": onnx(tensors=(external("/dev/zero", length=str(2**62)),)),
    "data in the weights": onnx(tensors=(external(WEIGHTS),)),
    "data with a NUL in its path": onnx(tensors=(external("model.data\0/../../etc/passwd"),)),
    "data at a negative offset": onnx(tensors=(external("model.data", offset="-1"),)),
    "data of endless length": onnx(tensors=(external("model.data", length="9" * 100_000),)),
    "custom operators": onnx(node("Evil", domain="com.attacker.ops"), domain="com.attacker.ops"),
    "operators of Python": onnx(node("PyOp", domain="ai.onnx.contrib")),
    "embedded Python": onnx(
        node(
            "PythonOp",
            domain="com.microsoft",
            attributes=data(5, data(1, "code") + data(4, "import os; os.system('true')")),
        )
    ),
    "aten": onnx(node("ATen", domain="org.pytorch.aten")),
    "a function of its own": onnx(functions=data(25, data(1, "Identity") + data(7, node("Evil")))),
    "a hundred thousand nodes": onnx(*([node("Identity")] * 100_000)),
    "branches nested 200 deep": nested(200),
    "a length that is not there": number(1, 10) + data(7, b"", length=2**62),
    "a number without an end": b"\xff" * 1000,
    "a group without an end": b"\x0b" * 10_000,
    "cut off": onnx()[:7],
}


@pytest.mark.parametrize("what", FILES)
def test_an_onnx_graph_is_refused_by_its_name(hall: Hall, folder: Path, what: str) -> None:
    (folder / "model.onnx").write_bytes(FILES[what])
    hall.register_refuses(folder, "model.onnx: files of kind .onnx are refused")
    hall.refuses(hall.forge(folder), "files of kind .onnx are refused", path="model.onnx")


@pytest.mark.parametrize("name", ["MODEL.ONNX", "onnx/model.onnx", "model_q4.onnx", "graph.pb"])
def test_it_is_refused_by_any_spelling_of_its_name(hall: Hall, folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(FILES["a sound one"])
    hall.refuses(hall.forge(folder), r"files of kind .(onnx|pb) are refused", path=name)


@pytest.mark.parametrize(
    "name", ["model.onnx_data", "model.onnx.data", "weights.data", "model.ort", "onnx", "w"]
)
def test_data_beside_a_graph_is_refused(hall: Hall, folder: Path, name: str) -> None:
    (folder / name).write_bytes(bytes(64))
    hall.refuses(hall.forge(folder), "is of a kind that is not loaded", path=name)


@pytest.mark.parametrize("what", FILES)
def test_a_graph_in_place_of_the_weights_is_refused(hall: Hall, folder: Path, what: str) -> None:
    tensors = honest_tensors(folder)
    (folder / WEIGHTS).write_bytes(FILES[what] + (folder / WEIGHTS).read_bytes())
    began = time.monotonic()
    hall.register_refuses(folder, f"{WEIGHTS}: its (safetensors )?header")
    hall.refuses(hall.forge(folder, tensors=tensors), "its (safetensors )?header", path=WEIGHTS)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "vocab.json", "tokenizer.json"])
@pytest.mark.parametrize("what", FILES)
def test_a_graph_under_the_name_of_a_text_is_refused(
    hall: Hall, folder: Path, name: str, what: str
) -> None:
    (folder / name).write_bytes(FILES[what])
    refusal = hall.refuses_here(hall.forge(folder), "is not|has ", path=name)
    assert refusal.path == name
