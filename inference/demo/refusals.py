"""What must not work, tried for real: a flipped bit, and a revoked model."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Final

from inference.client import CLASSIFY
from inference.demo.node_process import NodeProcess
from inference.demo.purchases import REVIEWS, payer
from inference.errors import GenerationError, NodeError
from registry.errors import FileRefusedError
from registry.workspace import Workspace

# How long a revoked model may go on being sold before the demo calls it a failure, in seconds.
REVOCATION_BOUND_S: Final = 15


def flip_a_bit(workspace: Workspace, model_id: bytes, folder: Path, scratch: Path) -> str:
    """Change one bit in the middle of a copy of the weights and try to verify it."""
    copy = scratch / "tampered"
    shutil.copytree(folder, copy)
    weights = copy / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(weights.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    try:
        workspace.verify(model_id, folder=copy, keep_files=False).close()
    except FileRefusedError as refusal:
        return refusal.message
    raise GenerationError("a model with a flipped bit was verified")


async def sell_revoked(
    config: Path, workspace: Workspace, model_id: bytes, model: str, node: NodeProcess
) -> str:
    """Revoke a model on chain and call it until the node refuses; say how long that took."""
    workspace.records.revoke(workspace.signer("publisher"), model_id, "shown in the demo")
    started = time.monotonic()
    async with payer(config, node, scheme="exact") as wallet:
        while (waited := time.monotonic() - started) < REVOCATION_BOUND_S:
            try:
                await wallet.call(CLASSIFY, {"model": model, "input": REVIEWS[0]})
            except NodeError as refusal:
                return f"{refusal.message} ({waited:.1f} s after the revocation)"
            await asyncio.sleep(0.2)
    raise GenerationError(f"a revoked model was still sold after {REVOCATION_BOUND_S} s")
