"""Model folders made of another one: the same files but for the numbers in the weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def shuffled(folder: Path, target: Path, *, seed: int) -> Path:
    """Write a model of the same shape with random weights of its own."""
    generator = torch.Generator().manual_seed(seed)
    return _changed(
        folder, target, lambda tensor: torch.empty_like(tensor).normal_(0, 0.3, generator=generator)
    )


def rounded(folder: Path, target: Path, *, levels: int) -> Path:
    """Write the model as quantised: each row in steps of its largest weight over `levels`."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        step = tensor.abs().amax(-1, keepdim=True) / levels
        return (tensor / step).round() * step

    return _changed(folder, target, change)


def _changed(folder: Path, target: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    shutil.copytree(folder, target)
    path = target / "model.safetensors"
    tensors = {name: change(tensor).contiguous() for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return target
