"""What makes a manifest true to itself, beyond having the right fields.

Every function raises `ManifestError` that names what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from registry.errors import FileRefusedError, ManifestError
from registry.hashing.dataset import HashedFile, root_of
from registry.hashing.safetensors_header import DTYPE_BYTES
from registry.ipfs.cid import DIGEST_BYTES, Cid

# A tensor as the rules see it: file, name, dtype, shape.
TensorRow: TypeAlias = tuple[str, str, str, Sequence[int]]
Value = TypeVar("Value")

# Names and keys are shown in one line of a terminal; values may be a short paragraph.
MAX_NAME_CHARACTERS: Final = 256
MAX_VALUE_CHARACTERS: Final = 1024
# The contract refuses more.
MAX_PARENTS: Final = 16
WEIGHTS_SUFFIX: Final = ".safetensors"
# Decimals are texts: a digest must not depend on how somebody prints a float.
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?")


def require(holds: bool, message: str) -> None:
    """Refuse unless the rule holds."""
    if not holds:
        raise ManifestError(message)


def check_name(value: str, what: str) -> None:
    """Demand 1 to 256 printable characters."""
    good = 0 < len(value) <= MAX_NAME_CHARACTERS and value.isprintable()
    require(good, f"{what} is not 1 to {MAX_NAME_CHARACTERS} printable characters: {value!r:.60}")


def check_license(license: str | None) -> None:
    """Demand a name, or nothing."""
    if license is not None:
        check_name(license, "license")


def check_texts(values: Mapping[str, str], what: str) -> None:
    """Demand names as keys and 1 to 1,024 printable characters as values."""
    for key, value in values.items():
        check_name(key, f"a key of {what}")
        good = 0 < len(value) <= MAX_VALUE_CHARACTERS and value.isprintable()
        require(good, f"{what}.{key} is not 1 to {MAX_VALUE_CHARACTERS} printable characters")


def check_metrics(metrics: Mapping[str, str]) -> None:
    """Demand decimals, such as 0.78: no exponent, no plus sign, no leading zeros."""
    for name, value in metrics.items():
        check_name(name, "a metric's name")
        require(bool(_DECIMAL.fullmatch(value)), f"metric {name} is not a decimal: {value!r:.60}")


def check_dtype(dtype: str) -> None:
    """Demand a dtype as safetensors writes it, such as BF16."""
    require(dtype in DTYPE_BYTES, f"{dtype!r:.40} is not a dtype such as BF16")


def check_digest(digest: bytes, what: str) -> None:
    """Demand 32 bytes."""
    require(len(digest) == DIGEST_BYTES, f"{what} has {len(digest)} bytes, not {DIGEST_BYTES}")


def check_parents(ids: Sequence[bytes]) -> None:
    """Demand at most 16 parents, each once."""
    for id in ids:
        check_digest(id, "a parent's id")
    require(len(ids) <= MAX_PARENTS, f"{len(ids)} parents are more than {MAX_PARENTS}")
    require(len(set(ids)) == len(ids), "a parent stands there twice")


def check_files(files: Sequence[HashedFile], root: Cid) -> None:
    """Demand files sorted by path that can stand in one folder and make exactly that root."""
    for before, after in pairwise(files):
        require(before.path < after.path, f"files are not sorted by path at {after.path!r:.80}")
    try:
        found = root_of(files)
    except FileRefusedError as error:
        raise ManifestError(f"files: {error.message}") from error
    require(found == root, f"the files make the folder {found}, not {root}")


def check_tensors(tensors: Sequence[TensorRow], files: Sequence[HashedFile]) -> None:
    """Demand tensors sorted by file and name that fit into the weight files, all of which count.

    Two tensors of one name would let two readers load different weights from one model.
    """
    require(bool(tensors), "the model has no tensors")
    for before, after in pairwise(tensors):
        require(before[:2] < after[:2], f"tensors are not sorted at {after[1]!r:.80}")
    names = {name for _, name, _, _ in tensors}
    require(len(names) == len(tensors), "a tensor name stands in two files")
    room = {file.path: file.size for file in files if file.path.endswith(WEIGHTS_SUFFIX)}
    for path in sorted({file for file, _, _, _ in tensors} ^ room.keys()):
        fault = "holds no listed tensor" if path in room else "is no listed weight file"
        raise ManifestError(f"{path} {fault}")
    for file, name, dtype, shape in tensors:
        check_name(name, "a tensor's name")
        require(all(size > 0 for size in shape), f"the shape of tensor {name} is not positive")
        room[file] -= DTYPE_BYTES[dtype] * prod(shape)
        require(room[file] >= 0, f"tensor {name} does not fit into {file}")


def check_headers(headers: Mapping[str, bytes], files: Sequence[HashedFile]) -> None:
    """Demand a digest of the header of every weight file, and of nothing else."""
    weights = {file.path for file in files if file.path.endswith(WEIGHTS_SUFFIX)}
    for path in sorted(weights ^ headers.keys()):
        fault = "has no header digest" if path in weights else "has a header digest, but no weights"
        raise ManifestError(f"{path} {fault}")
    for path, digest in headers.items():
        check_digest(digest, f"the header digest of {path}")


def frozen(values: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return a copy that nobody can change."""
    return MappingProxyType(dict(values))
