"""A model's folder as transformers writes it: what its configuration says about itself.

Only a few values are read here, to describe the model in its manifest. Whether the configuration
may be loaded is the loader's decision.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Final

from registry.errors import FileRefusedError
from registry.hashing.dataset import HashedFile
from registry.hashing.safetensors_header import DTYPE_BYTES
from registry.hashing.sealed import SealedFile
from registry.hashing.walk import read_beneath
from registry.hashing.weights import hash_weights
from registry.manifest_parts import Serving, TensorEntry
from registry.manifest_rules import WEIGHTS_SUFFIX

CONFIG: Final = "config.json"
# A configuration is some kilobytes; label lists make some of them larger.
_MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
_CONTEXT_KEYS: Final = ("max_position_embeddings", "n_positions", "n_ctx")
# An answer may take this much of the context unless the publisher says otherwise, and no more
# than this many tokens: what a payer is quoted for at most.
_OUTPUT_SHARE: Final = 2
_OUTPUT_TOKENS: Final = 1024


def read_config(folder: Path) -> Mapping[str, object]:
    """Return `config.json`. Raises `FileRefusedError` when it is missing or no JSON object."""
    data = b""
    for piece in read_beneath(folder, CONFIG):
        data += piece
        if len(data) > _MAX_CONFIG_BYTES:
            raise FileRefusedError(CONFIG, f"is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileRefusedError(CONFIG, "is not JSON") from error
    if not isinstance(value, dict):
        raise FileRefusedError(CONFIG, "is not a JSON object")
    return value


def architecture_of(config: Mapping[str, object]) -> str:
    """Return the one architecture a configuration names."""
    named = config.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise FileRefusedError(
            CONFIG, "does not name one architecture", hint="save the model with transformers"
        )
    return named[0]


def serving_of(config: Mapping[str, object], tensors: Sequence[TensorEntry], task: str) -> Serving:
    """Return serving limits: the context of the configuration, the dtype of most weight bytes."""
    context = next((config[key] for key in _CONTEXT_KEYS if key in config), None)
    if not isinstance(context, int) or context <= 0:
        raise FileRefusedError(
            CONFIG, "gives no context length", hint="say how the model is served: serving=…"
        )
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += DTYPE_BYTES[tensor.dtype] * prod(tensor.shape)
    output = min(context // _OUTPUT_SHARE, _OUTPUT_TOKENS) if task == "chat" else 0
    return Serving(sizes.most_common(1)[0][0], context, output)


def hash_tensors(folder: Path, files: Sequence[HashedFile]) -> tuple[TensorEntry, ...]:
    """Return every tensor of the weight files among `files`, sorted by file and name.

    Each weight file is copied and checked against its CID first, so that tensors and CIDs are of
    the same bytes. Raises `FileRefusedError` naming file and rule.
    """
    found: list[TensorEntry] = []
    for file in files:
        if not file.path.endswith(WEIGHTS_SUFFIX):
            continue
        sealed = SealedFile.copy(read_beneath(folder, file.path), file.cid, file.size, file.path)
        try:
            for tensor in hash_weights(sealed.view(), path=file.path):
                found.append(
                    TensorEntry(file.path, tensor.name, tensor.dtype, tensor.shape, tensor.digest)
                )
        finally:
            sealed.close()
    if not found:
        raise FileRefusedError(
            str(folder.name), "holds no safetensors weights", hint="convert them to safetensors"
        )
    return tuple(found)
