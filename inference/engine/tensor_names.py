"""Where a file's tensor lies in its module: published vision models bear names of older classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_VIT_LAYER: Final = re.compile(r"vit\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
_VIT_PARTS: Final[Mapping[str, str]] = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def place_of(name: str) -> str:
    """Return the name in its module of a file's tensor; most have one name for both."""
    found = _VIT_LAYER.fullmatch(name)
    if found is None:
        return name
    layer, part, kind = found.groups()
    return f"vit.layers.{layer}.{_VIT_PARTS.get(part, part)}.{kind}"
