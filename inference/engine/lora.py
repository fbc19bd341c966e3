"""LoRA adapters in a module: two small matrices beside each linear one that they change.

The base's weights are left as they are, so that what lies in memory stays what its manifest lists;
what an adapter adds is computed beside them: W x + scale · B(A x). arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from registry.adapter import changed_modules, resident_name
from registry.manifest import ModelManifest


def attach(module: PreTrainedModel, adapter: ModelManifest, scale: float) -> None:
    """Add an adapter's matrices to a module, still without memory.

    They are named after their module: `….lora_A.weight`, of shape (rank, inputs), and
    `….lora_B.weight`, of shape (outputs, rank). That each fits was checked with the manifests.
    """
    shapes = {resident_name(entry.name): entry.shape for entry in adapter.tensors}
    for name in changed_modules(adapter):
        host = module.get_submodule(name)
        host.lora_A = _matrix(shapes[f"{name}.lora_A.weight"])
        host.lora_B = _matrix(shapes[f"{name}.lora_B.weight"])
        host.register_forward_hook(_Addition(scale))


class _Addition:
    """What is added to a linear module's output."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def __call__(
        self, host: torch.nn.Module, inputs: Sequence[Any], output: torch.Tensor
    ) -> torch.Tensor:
        down, up = host.get_submodule("lora_A"), host.get_submodule("lora_B")
        added: torch.Tensor = up(down(inputs[0])) * self._scale
        return output + added


def _matrix(shape: Sequence[int]) -> torch.nn.Linear:
    outputs, inputs = shape
    return torch.nn.Linear(inputs, outputs, bias=False, device="meta")
