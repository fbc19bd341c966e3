"""Which forward pass a loaded model gets."""

from __future__ import annotations

from inference.engine.compute_plan import ComputePlan
from inference.engine.forward import Forward
from inference.engine.module_forward import ModuleForward
from inference.engine.packed_forward import PackedForward
from inference.loader import LoadedModel


def open_forward(loaded: LoadedModel, plan: ComputePlan, *, rows: int, sequences: int) -> Forward:
    """Return what computes: kernels where the model was packed for them, else its own modules.

    At most `rows` tokens of `sequences` sequences are computed at a time.
    """
    if not plan.packed:
        return ModuleForward(
            loaded.module,
            loaded.torch_device,
            blocks=plan.blocks,
            context=loaded.serving.max_context,
        )
    return PackedForward(
        loaded.module,
        name=f"engine-{loaded.name}",
        threads=loaded.threads,
        blocks=plan.blocks,
        rows=rows,
        sequences=sequences,
        context=loaded.serving.max_context,
    )
