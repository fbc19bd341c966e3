"""A model's files, copied into sealed memory as they are hashed.

What is loaded later is this copy, so that nothing which happens to the folder in between matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from registry.errors import FileRefusedError
from registry.hashing.dataset import HashedFile
from registry.hashing.sealed import SealedFile
from registry.hashing.walk import read_beneath, walk
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.unixfs import read_file


def seal_files(
    listed: Sequence[HashedFile],
    *,
    folder: Path | None,
    blocks: BlockStore,
    keep: bool,
    progress: Callable[[int], None] | None,
) -> dict[str, SealedFile]:
    """Copy every listed file, from `folder` or else from `blocks`; return the copies by path.

    With `keep` false each copy is dropped once it was checked and the answer is empty. `progress`
    is called with the bytes read since its last call.

    Raises `FileRefusedError` for a file that is missing, extra or other than listed, and what the
    block store raises; no copy stays in memory then.
    """
    if folder is not None:
        check_folder(folder, listed)
    sealed: dict[str, SealedFile] = {}
    with ExitStack() as undo:
        for file in listed:
            pieces = (
                read_file(blocks, file.cid, max_bytes=file.size)
                if folder is None
                else read_beneath(folder, file.path)
            )
            copy = SealedFile.copy(_counted(pieces, progress), file.cid, file.size, file.path)
            if keep:
                undo.callback(copy.close)
                sealed[file.path] = copy
            else:
                copy.close()
        undo.pop_all()
    return sealed


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


def _counted(pieces: Iterator[bytes], progress: Callable[[int], None] | None) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        if progress is not None:
            progress(len(piece))
