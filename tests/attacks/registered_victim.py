"""The victim on the hall's chain, and what attackers do to a copy of its folder."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

from tests.attacks.forgery import forged_manifest
from tests.attacks.hall import SERVING, Case, Hall
from tests.attacks.victim import write_victim


def victim_of(hall: Hall) -> Case:
    """Return the victim as the hall's publisher registered it; made when first asked for."""
    folder = hall.config.parent / "victim"
    if not folder.exists():
        write_victim(folder)
    # What stays until the end is not looked through at each of the many collections that follow.
    gc.freeze()
    return hall.register(folder, serving=None)


def copied(case: Case, to: Path) -> Case:
    """Return the case with a copy of its folder in the new folder `to`, to be spoilt."""
    return Case(case.id, Path(shutil.copytree(folder_of(case), to)))


def folder_of(case: Case) -> Path:
    """Return the folder of a case that has one."""
    assert case.folder is not None
    return case.folder


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Flip one bit of a file; a negative place counts from its end."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def block_file(hall: Hall, cid: object) -> Path:
    """Return the file of a block in the store that the hall and its node share."""
    return next(hall.config.parent.glob(f".weightproof/blocks/*/{cid}"))


def manifest_for(hall: Hall, folder: Path) -> dict[str, Any]:
    """Return a true manifest of a folder as JSON, to be spoilt; its files' blocks are stored."""
    return forged_manifest(folder, hall.workspace.blocks, serving=SERVING.to_json())
