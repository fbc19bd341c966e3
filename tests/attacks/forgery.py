"""Manifests written by hand: what a hostile publisher records where registering would refuse.

Files and root are true, since any publisher can compute them; everything else is what he says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from registry.hashing.dataset import hash_folder
from registry.hashing.weights import TENSOR_1, TENSOR_2, TensorRule, hash_weights, tensor_digest
from registry.ipfs.blockstore import BlockStore
from registry.manifest_model import FORMAT_1, FORMAT_2
from registry.manifest_parts import files_to_json

WEIGHTS = "model.safetensors"
FORMATS = {1: FORMAT_1, 2: FORMAT_2}
RULES = {1: TENSOR_1, 2: TENSOR_2}


def forged_manifest(
    folder: Path,
    blocks: BlockStore,
    *,
    tensors: Sequence[Mapping[str, Any]] | None = None,
    version: int = 2,
    **changes: Any,
) -> dict[str, Any]:
    """Return a manifest of the folder as JSON, and store the folder's blocks.

    `tensors` are the entries to list; without them the weights are read as leniently as they can
    be. `version` is that of the manifest's format: the first promises no headers and has no golden
    vectors. `changes` replace any other field; None removes one.
    """
    hashed = hash_folder(folder, sink=blocks)
    weights = [file.path for file in hashed.files if file.path.endswith(".safetensors")]
    listed = lenient_tensors(folder, weights, RULES[version]) if tensors is None else list(tensors)
    manifest = {
        "format": FORMATS[version],
        "name": folder.name,
        "task": "chat",
        "architecture": "LlamaForCausalLM",
        "root": str(hashed.root),
        "files": files_to_json(hashed.files),
        "tensors": listed,
        "parents": [],
        "metrics": {},
        "headers": _headers(folder, weights) if version > 1 else None,
        "golden": forged_golden(folder) if version > 1 else None,
        **changes,
    }
    return {name: value for name, value in manifest.items() if value is not None}


def forged_golden(folder: Path) -> dict[str, Any] | None:
    """Return golden vectors as the folder's own tokenizer and the good template make them."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    text = "Hi"
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        plain, wrapped = (tokenizer.encode(text, add_special_tokens=on).ids for on in (False, True))
        decoded = tokenizer.decode(plain)
    except BaseException as error:  # native code panics; then any vectors are as good
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        plain, wrapped, decoded = [0], [0], text
    return {
        "texts": [{"text": text, "ids": plain, "wrapped": wrapped, "decoded": decoded}],
        "chats": [
            {
                "messages": [{"role": "user", "content": text}],
                "rendered": f"<|user|>{text}<|end|><|assistant|>",
            }
        ],
    }


def honest_tensors(folder: Path, *paths: str, version: int = 2) -> list[dict[str, Any]]:
    """Return the tensors of a good folder as manifests list them."""
    return [
        {
            "file": path,
            "name": tensor.name,
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "digest": "0x" + tensor.digest.hex(),
        }
        for path in sorted(paths or (WEIGHTS,))
        for tensor in hash_weights(
            memoryview((folder / path).read_bytes()), path=path, rule=RULES[version]
        )
    ]


def lenient_tensors(
    folder: Path, paths: Sequence[str], rule: TensorRule = TENSOR_2
) -> list[dict[str, Any]]:
    """Return the tensors of weight files as a careless reader sees them: the last key wins."""
    found = []
    for path in sorted(paths):
        data = (folder / path).read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        header.pop("__metadata__", None)
        for name, entry in sorted(header.items()):
            start, end = (begin + offset for offset in entry["data_offsets"])
            digest = tensor_digest(entry["dtype"], entry["shape"], data[start:end], rule)
            found.append(
                {
                    "file": path,
                    "name": name,
                    "dtype": entry["dtype"],
                    "shape": entry["shape"],
                    "digest": "0x" + digest.hex(),
                }
            )
    return found


def _headers(folder: Path, paths: Sequence[str]) -> list[dict[str, str]]:
    entries = []
    for path in sorted(paths):
        data = (folder / path).read_bytes()
        digest = hashlib.sha256(data[: 8 + int.from_bytes(data[:8], "little")]).hexdigest()
        entries.append({"path": path, "digest": "0x" + digest})
    return entries
