"""A model's files, taken into memory that nobody else can change, or opened where they lie.

Small files are copied and hashed at once. Weight files are opened and their layout is proven; the
loader reads each of their bytes once, to where it computes, and hashes it there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from registry.errors import FileRefusedError
from registry.hashing.dataset import HashedFile
from registry.hashing.safetensors_header import header_bytes
from registry.hashing.sealed import SealedFile
from registry.hashing.walk import read_beneath, walk
from registry.hashing.weight_file import BlockWeights, FolderWeights, WeightFile, read_listed
from registry.hashing.weights import hash_weights
from registry.ipfs.blockstore import BlockStore
from registry.manifest import ModelManifest
from registry.manifest_rules import WEIGHTS_SUFFIX
from registry.text.strict_json import MAX_CONFIG_BYTES


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's files come from: a folder, or the block store when there is none."""

    manifest: ModelManifest
    blocks: BlockStore
    folder: Path | None
    progress: Callable[[int], None] | None = None

    def check(self) -> None:
        """Hash every file, and every tensor; keep nothing.

        Raises `FileRefusedError` for a file that is missing, extra or other than listed, a weight
        file whose tensors are not those listed, and what the block store raises.
        """
        if self.folder is not None:
            check_folder(self.folder, self.manifest.files)
        for file in self.manifest.files:
            sealed = self._seal(file)
            try:
                if file.path.endswith(WEIGHTS_SUFFIX):
                    self._check_tensors(sealed)
            finally:
                sealed.close()

    def take(self) -> tuple[dict[str, SealedFile], dict[str, WeightFile]]:
        """Return the sealed copies of small files and the opened weight files, by path.

        Raises like `check`; nothing stays in memory or open then.
        """
        if self.folder is not None:
            check_folder(self.folder, self.manifest.files)
        sealed: dict[str, SealedFile] = {}
        weights: dict[str, WeightFile] = {}
        with ExitStack() as undo:
            for file in self.manifest.files:
                if file.path.endswith(WEIGHTS_SUFFIX):
                    weights[file.path] = self._open(file)
                    undo.callback(weights[file.path].close)
                else:
                    sealed[file.path] = self._seal(file)
                    undo.callback(sealed[file.path].close)
            undo.pop_all()
        return sealed, weights

    def read(self, path: str) -> bytes:
        """Return the bytes of a configuration that the manifest lists. Raises like `check`."""
        file = {file.path: file for file in self.manifest.files}[path]
        if file.size > MAX_CONFIG_BYTES:
            raise FileRefusedError(path, f"has {file.size} bytes, more than {MAX_CONFIG_BYTES}")
        sealed = self._seal(file)
        try:
            return sealed.bytes()
        finally:
            sealed.close()

    def _open(self, file: HashedFile) -> WeightFile:
        header = self.manifest.headers.get(file.path)
        if header is None:
            # The first format of manifests promises the file as a whole only.
            self._seal(file).close()
        if self.folder is not None:
            return FolderWeights(self.folder, file, header)
        return BlockWeights(self.blocks, file, header)

    def _seal(self, file: HashedFile) -> SealedFile:
        return SealedFile.copy(self._pieces(file), file.cid, file.size, file.path)

    def _check_tensors(self, sealed: SealedFile) -> None:
        """Compare a weight file's header and tensors with what the manifest says of them."""
        path, view, manifest = sealed.path, sealed.view(), self.manifest
        header = manifest.headers.get(path)
        if header not in (None, hashlib.sha256(header_bytes(view, path=path)).digest()):
            raise FileRefusedError(path, "its header is not the one in the manifest")
        promised = {
            t.name: (t.dtype, t.shape, t.digest) for t in manifest.tensors if t.file == path
        }
        for tensor in hash_weights(view, path=path, rule=manifest.tensor_rule):
            found = (tensor.dtype, tensor.shape, tensor.digest)
            if promised.pop(tensor.name, None) != found:
                raise FileRefusedError(
                    path, f"tensor {tensor.name} is not as the manifest lists it"
                )
        if promised:
            raise FileRefusedError(path, f"tensor {min(promised)} is missing")

    def _pieces(self, file: HashedFile) -> Iterator[bytes]:
        pieces = (
            read_listed(self.blocks, file)
            if self.folder is None
            else read_beneath(self.folder, file.path)
        )
        for piece in pieces:
            yield piece
            if self.progress is not None:
                self.progress(len(piece))


def check_folder(folder: Path, listed: Sequence[HashedFile]) -> None:
    """Raise `FileRefusedError` unless the folder holds exactly the listed files, by path and size.

    An unlisted file is refused even if nothing seems to read it: loaders pick files up by name.
    """
    sizes = {file.path: file.size for file in listed}
    found = {file.path: file.size for file in walk(folder)}
    for path in sorted(found.keys() - sizes.keys()):
        raise FileRefusedError(
            path, "is not in the manifest", hint="keep only the registered files in the folder"
        )
    for path in sorted(sizes.keys() - found.keys()):
        raise FileRefusedError(path, "is missing")
    for path, size in sizes.items():
        if found[path] != size:
            raise FileRefusedError(path, f"has {found[path]} bytes, the manifest says {size}")
