"""A model's folder as transformers writes it: what its configuration says about itself.

Only a few values are read here, to describe the model in its manifest. Whether the configuration
may be loaded is the loader's decision.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Final

from registry.errors import FileRefusedError
from registry.hashing.dataset import HashedFile
from registry.hashing.safetensors_header import DTYPE_BYTES, header_bytes
from registry.hashing.sealed import SealedFile
from registry.hashing.walk import read_beneath
from registry.hashing.weights import hash_weights
from registry.manifest_parts import Serving, TensorEntry
from registry.manifest_rules import WEIGHTS_SUFFIX
from registry.text.chat_template import PATH as TEMPLATE
from registry.text.golden import Golden, make_golden
from registry.text.model_text import CONFIG, TEXT_FILES, check_one_template, read_model_text
from registry.text.strict_json import parse_object
from registry.text.tokenizer import PATH as TOKENIZER

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
    """Return serving limits: the context of the configuration, the dtype of most weight bytes.

    What a model of images reads is its patches, and one token for the whole.
    """
    context = next((config[key] for key in _CONTEXT_KEYS if key in config), _patches(config))
    if not isinstance(context, int) or context <= 0:
        raise FileRefusedError(
            CONFIG, "gives no context length", hint="say how the model is served: serving=…"
        )
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += DTYPE_BYTES[tensor.dtype] * prod(tensor.shape)
    output = min(context // _OUTPUT_SHARE, _OUTPUT_TOKENS) if task == "chat" else 0
    return Serving(sizes.most_common(1)[0][0], context, output)


def _patches(config: Mapping[str, object]) -> int | None:
    image, patch = config.get("image_size"), config.get("patch_size")
    if isinstance(image, int) and isinstance(patch, int) and 0 < patch <= image:
        return (image // patch) ** 2 + 1
    return None


def hash_tensors(
    folder: Path, files: Sequence[HashedFile]
) -> tuple[tuple[TensorEntry, ...], dict[str, bytes]]:
    """Return every tensor in `files`, sorted by file and name, and each header's SHA-256 by path.

    Each weight file is copied and checked against its CID first, so that tensors and CIDs are of
    the same bytes. Raises `FileRefusedError` naming file and rule.
    """
    found: list[TensorEntry] = []
    headers: dict[str, bytes] = {}
    for file in files:
        if not file.path.endswith(WEIGHTS_SUFFIX):
            continue
        with _sealed(folder, file) as data:
            headers[file.path] = hashlib.sha256(header_bytes(data, path=file.path)).digest()
            for tensor in hash_weights(data, path=file.path):
                found.append(
                    TensorEntry(file.path, tensor.name, tensor.dtype, tensor.shape, tensor.digest)
                )
    if not found:
        raise FileRefusedError(
            str(folder.name), "holds no safetensors weights", hint="convert them to safetensors"
        )
    return tuple(found), headers


def golden_of(folder: Path, files: Sequence[HashedFile], *, task: str) -> Golden | None:
    """Return the golden vectors of a model's text, or None where it has no tokenizer.

    Raises `FileRefusedError` naming file and rule for a tokenizer or template that no loader
    takes, and for a second template that some other reader might prefer.
    """
    listed = {file.path: file for file in files}
    if TOKENIZER not in listed:
        return None
    check_one_template(listed)
    texts: dict[str, bytes] = {}
    for path in TEXT_FILES:
        if path in listed:
            with _sealed(folder, listed[path]) as data:
                texts[path] = data.tobytes()
    rows = parse_object(texts[CONFIG], CONFIG).get("vocab_size") if CONFIG in texts else None
    text = read_model_text(texts, rows=rows if isinstance(rows, int) else None)
    if text.template is None and task == "chat":
        raise FileRefusedError(TEMPLATE, "is missing: this model cannot chat")
    return make_golden(text.tokenizer, text.template)


@contextmanager
def _sealed(folder: Path, file: HashedFile) -> Iterator[memoryview]:
    """Yield a file's bytes, copied and checked against its CID."""
    sealed = SealedFile.copy(read_beneath(folder, file.path), file.cid, file.size, file.path)
    try:
        yield sealed.view()
    finally:
        sealed.close()
