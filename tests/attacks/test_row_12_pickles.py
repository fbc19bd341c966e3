"""Row 12: files whose reading runs code, by their names and under other names.

Every file is real: whoever unpickles one makes a folder named by `marker`. Nobody may.
"""

from __future__ import annotations

import base64
import bz2
import io
import json
import lzma
import marshal
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.attacks.forgery import honest_tensors
from tests.attacks.hall import Hall
from tests.attacks.safetensors_bytes import WEIGHTS, library_reads

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """The folder that appears when somebody runs what a test made. It must not."""
    path = tmp_path / "was-run"
    yield path
    assert not path.exists(), "the pickle was run"


def pickled(marker: Path, protocol: int = 4) -> bytes:
    return pickle.dumps({"weight": Bomb(marker)}, protocol)


def torch_zip(marker: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3), "bomb": Bomb(marker)}, file)
    return file.getvalue()


def torch_legacy(marker: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"bomb": Bomb(marker)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def numpy_objects(marker: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    return file.getvalue()


def numpy_archive(marker: Path) -> bytes:
    return zipped({"weight.npy": numpy_objects(marker)})


def joblib_compressed(marker: Path) -> bytes:
    return zlib.compress(pickled(marker))


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(files: dict[str, bytes], mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return file.getvalue()


def hdf5(marker: Path) -> bytes:
    """An HDF5 file of one empty root group, whose attribute space holds a Keras Lambda."""
    superblock = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0])
    superblock += struct.pack("<HHI", 4, 16, 0) + struct.pack(
        "<QQQQ", 0, 2**64 - 1, 2048, 2**64 - 1
    )
    superblock += struct.pack("<QQII", 0, 96, 0, 0) + bytes(16)
    header = struct.pack("<BBHII4x", 1, 0, 0, 1, 0)
    return (superblock + header + keras_config(marker)).ljust(2048, b"\0")


def keras_config(marker: Path) -> bytes:
    code = compile(f"__import__('os').mkdir({str(marker)!r})", "lambda", "eval")
    layer = {
        "class_name": "Lambda",
        "config": {
            "name": "lambda",
            "function": {
                "class_name": "__lambda__",
                "config": {"code": base64.b64encode(marshal.dumps(code)).decode()},
            },
        },
    }
    return json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}}).encode()


def keras(marker: Path) -> bytes:
    return zipped(
        {
            "metadata.json": b'{"keras_version": "3.9.0"}',
            "config.json": keras_config(marker),
            "model.weights.h5": hdf5(marker),
        }
    )


def torch_serve(marker: Path) -> bytes:
    manifest = {"model": {"modelName": "x", "handler": "handler.py", "serializedFile": "x.pt"}}
    return zipped(
        {
            "MAR-INF/MANIFEST.json": json.dumps(manifest).encode(),
            "handler.py": f"import os; os.mkdir({str(marker)!r})".encode(),
            "x.pt": torch_zip(marker),
        }
    )


def nemo(marker: Path) -> bytes:
    config = f"target: os.mkdir\n_target_: os.mkdir\npath: {marker}\n".encode()
    return tarred({"model_config.yaml": config, "model_weights.ckpt": torch_zip(marker)}, "w:gz")


FAMILY: list[tuple[str, Callable[[Path], bytes]]] = [
    ("pytorch_model.bin", torch_zip),
    ("pytorch_model.bin", torch_legacy),
    ("PYTORCH_MODEL.BIN", torch_zip),
    ("old/pytorch_model.bin", torch_zip),
    ("old/.bin", torch_zip),
    ("model.safetensors.bin", torch_zip),
    ("model.pt", torch_zip),
    ("model.pth", torch_legacy),
    ("last.ckpt", torch_zip),
    ("weights.pkl", pickled),
    ("weights.pickle", pickled),
    ("weights.dill", pickled),
    ("weights.cloudpickle", pickled),
    ("model.pdparams", pickled),
    ("pipeline.joblib", pickled),
    ("pipeline.joblib", joblib_compressed),
    ("model.skops", numpy_archive),
    ("table.npy", numpy_objects),
    ("table.npz", numpy_archive),
    ("model.h5", hdf5),
    ("model.hdf5", hdf5),
    ("model.keras", keras),
    ("served.mar", torch_serve),
    ("speech.nemo", nemo),
    ("archive.zip", torch_serve),
    ("archive.tar", lambda marker: tarred({"x.pkl": pickled(marker)}, "w:")),
    ("archive.tar.gz", nemo),
    ("archive.tgz", nemo),
]


@pytest.mark.parametrize(
    ("name", "make"), FAMILY, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_file_of_the_pickle_family_is_refused_by_its_name(
    hall: Hall, folder: Path, marker: Path, name: str, make: Callable[[Path], bytes]
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(make(marker))
    hall.register_refuses(folder, f"{name}: files of kind .* can run code")
    hall.refuses(hall.forge(folder), r"step 6 .*can run code", path=name)


@pytest.mark.parametrize("name", ["weights.data", "weights", "model.weights", "model.safetensors_"])
def test_a_pickle_with_a_name_that_nothing_loads_is_refused(
    hall: Hall, folder: Path, marker: Path, name: str
) -> None:
    (folder / name).write_bytes(pickled(marker))
    hall.refuses(hall.forge(folder), r"is a pickle|is of a kind that is not loaded", path=name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_in_place_of_the_weights_is_refused(
    hall: Hall, folder: Path, marker: Path, protocol: int
) -> None:
    tensors = honest_tensors(folder)
    # Long enough that the listed tensors would fit into it.
    data = pickled(marker, protocol) + (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data)
    hall.register_refuses(folder, f"{WEIGHTS}: its (safetensors )?header")
    hall.refuses(hall.forge(folder, tensors=tensors), r"is a pickle|header", path=WEIGHTS)


@pytest.mark.parametrize("make", [torch_zip, torch_legacy, numpy_objects, hdf5, keras, nemo])
def test_an_archive_in_place_of_the_weights_is_refused(
    hall: Hall, folder: Path, marker: Path, make: Callable[[Path], bytes]
) -> None:
    tensors = honest_tensors(folder)
    (folder / WEIGHTS).write_bytes(make(marker) + (folder / WEIGHTS).read_bytes())
    hall.register_refuses(folder, f"{WEIGHTS}: its (safetensors )?header")
    hall.refuses(hall.forge(folder, tensors=tensors), r": is an? |header", path=WEIGHTS)


@pytest.mark.parametrize("make", [pickled, torch_zip], ids=["pickle", "zip"])
def test_a_pickle_as_a_second_weight_file_is_refused(
    hall: Hall, folder: Path, marker: Path, make: Callable[[Path], bytes]
) -> None:
    name = "extra.safetensors"
    (folder / name).write_bytes(make(marker))
    entry = {
        "file": name,
        "name": "a.backdoor",
        "dtype": "U8",
        "shape": [1],
        "digest": "0x" + "00" * 32,
    }
    case = hall.forge(folder, tensors=[entry, *honest_tensors(folder)])
    hall.refuses(case, r"is an? |header", path=name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
def test_a_pickle_in_place_of_a_text_that_is_read_is_refused(
    hall: Hall, folder: Path, marker: Path, name: str, protocol: int
) -> None:
    (folder / name).write_bytes(pickled(marker, protocol))
    hall.refuses(hall.forge(folder), r"is (a pickle|not (JSON|UTF-8|a tokenizer))", path=name)


DISGUISES: dict[str, Callable[[Path], bytes]] = {
    **{f"pickle {n}": lambda marker, n=n: pickled(marker, n) for n in PROTOCOLS if n > 1},
    "torch zip": torch_zip,
    "torch legacy": torch_legacy,
    "numpy": numpy_objects,
    "hdf5": hdf5,
    "keras": keras,
    "nemo": nemo,
    "tar": lambda marker: tarred({"x.pkl": pickled(marker)}, "w:"),
    "joblib": joblib_compressed,
    "bzip2": lambda marker: bz2.compress(pickled(marker)),
    "xz": lambda marker: lzma.compress(pickled(marker)),
    "7z": lambda marker: b"7z\xbc\xaf\x27\x1c\x00\x04" + pickled(marker),
    "zip after text": lambda marker: b"# Readme\n" + torch_zip(marker),
    "windows program": lambda _: b"MZ\x90\x00\x03\x00\x00\x00",
    "webassembly": lambda _: b"\x00asm\x01\x00\x00\x00",
    "python bytecode": lambda marker: b"\xa7\r\r\n" + bytes(12) + marshal.dumps(
        compile(f"__import__('os').mkdir({str(marker)!r})", "x", "exec")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "notes.txt", "vocab.json"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_what_can_run_code_is_refused_under_the_name_of_a_text(
    hall: Hall, folder: Path, marker: Path, name: str, disguise: str
) -> None:
    (folder / name).write_bytes(DISGUISES[disguise](marker))
    hall.refuses(hall.forge(folder), rf"{name}: is (an? |not )", path=name)


def test_a_pickle_of_plain_letters_is_a_text_that_nobody_runs(
    hall: Hall, folder: Path, marker: Path
) -> None:
    # Protocol 0 has no mark of its own: such a file can only be left alone, and it is.
    (folder / "README.md").write_bytes(pickled(marker, 0))
    hall.accepts(hall.forge(folder))


def test_weights_that_are_a_pickle_made_of_lines_too_are_refused(
    hall: Hall, folder: Path, marker: Path
) -> None:
    """A line break in the header is all it takes: V reads the length and JSON as one text."""
    program = b"cos\nmkdir\n(V" + str(marker).encode() + b"\ntR."
    program += b"\0" * (len(program) % 2)
    text = '{"__metadata__":{"pad":"%s"},"x":{"data_offsets":[0,%d],"dtype":"U8","shape":[%d,\n2]}}'
    bare = len(text % ("", len(program), len(program) // 2))
    # The length's first byte is V, and so the first letter of the pickle.
    pad = " " * ((ord("V") - bare) % 256)
    header = (text % (pad, len(program), len(program) // 2)).encode()
    data = len(header).to_bytes(8, "little") + header + program
    assert data[:1] == b"V"
    assert list(library_reads(data)) == ["x"]
    assert run_pickle(data) and marker.exists()
    marker.rmdir()
    (folder / "extra.safetensors").write_bytes(data)
    hall.register_refuses(folder, "extra.safetensors: its header has a line break")
    hall.refuses(hall.forge(folder), "its header has a line break", path="extra.safetensors")


def run_pickle(data: bytes) -> bool:
    """Unpickle in a process of its own, as a victim would."""
    code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", code], input=data, check=False)
    return done.returncode == 0


@pytest.mark.parametrize(
    "load",
    [
        lambda marker: pickle.loads(pickled(marker, 0)),
        lambda marker: pickle.loads(pickled(marker, 5)),
        lambda marker: torch.load(io.BytesIO(torch_zip(marker)), weights_only=False),
        lambda marker: torch.load(io.BytesIO(torch_legacy(marker)), weights_only=False),
        lambda marker: np.load(io.BytesIO(numpy_objects(marker)), allow_pickle=True),
        lambda marker: pickle.loads(zlib.decompress(joblib_compressed(marker))),
    ],
    ids=["pickle 0", "pickle 5", "torch zip", "torch legacy", "numpy", "joblib"],
)
def test_the_bombs_are_real(marker: Path, load: Callable[[Path], object]) -> None:
    load(marker)
    assert marker.exists()
    marker.rmdir()
