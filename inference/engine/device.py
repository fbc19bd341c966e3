"""Where a model computes: on the GPU where there is one, else on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import torch

from inference.errors import LoadRefusedError
from registry.errors import ConfigError

# Where Linux says what a container may use; absent or "max" where it is not limited.
_CONTAINER_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")


def choose_device(wanted: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`. Raises `ConfigError`."""
    available = torch.cuda.is_available()
    if wanted == "auto":
        wanted = "cuda" if available else "cpu"
    kind, _, index = wanted.partition(":")
    if wanted == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (index and not index.isdigit()):
        raise ConfigError(f"the device {wanted!r:.40} is none of auto, cpu, cuda, cuda:N")
    number = int(index or 0)
    if not available or number >= torch.cuda.device_count():
        raise ConfigError(
            f"the device {wanted} was asked for, but torch sees none",
            hint="Set device to auto or cpu.",
        )
    return torch.device("cuda", number)


def describe(device: torch.device) -> str:
    """Return the device as /v1/models and receipts state it."""
    if device.type == "cuda":
        return f"cuda:{device.index} {torch.cuda.get_device_name(device)}"
    return device.type


def check_memory(device: torch.device, *, weights: int, more: int) -> None:
    """Raise `LoadRefusedError` unless weights and what computing takes beside them fit, in bytes.

    On the CPU the verified weights lie in memory already, so only the rest is new.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        needed = weights + more
    else:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - weights
        needed = more
    if needed > free:
        raise LoadRefusedError(
            "model",
            f"needs {needed} bytes on {describe(device)}, which has {free} free",
            hint="Register it with a smaller serving.max_context, or use a larger machine.",
        )


def capacity(device: torch.device) -> int:
    """Return the memory of a device in bytes; on the CPU what this container may use."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return int(total)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = _CONTAINER_LIMIT.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def release(module: torch.nn.Module) -> None:
    """Let go of a module's tensors at once, whoever still refers to the module."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.new_empty(0)


def give_back(device: torch.device) -> None:
    """Return to the device what torch keeps of freed tensors for its own later use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
