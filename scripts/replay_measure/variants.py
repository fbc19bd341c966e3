"""Model folders that a node might serve in place of the registered one.

Quantised weights are kept in single precision, rounded to what the quantised form can say and to
nothing coarser: the best case for whoever would pass them off as the registered ones.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

WEIGHTS: Final = "model.safetensors"
# Weights that share a scale in the 4-bit form. The model comes from a GGUF file of 4 bits in blocks
# of 32: rounded by the same blocks it would hardly change.
GROUP: Final = 64
TUNING_STEPS: Final = 200
TUNING_TOKENS: Final = 128
TUNING_RATE: Final = 2e-5
LEFT_OUT: Final = (14, 15)
_MATRIX: Final = re.compile(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight")
_LAYER: Final = re.compile(r"model\.layers\.(\d+)\.")

Tensors = dict[str, torch.Tensor]


def prepare(kind: str, source: Path, target: Path, progress: Callable[[str], None]) -> Path:
    """Write the folder `target` of a kind of `VARIANTS` from the registered `source`, once."""
    if not target.exists():
        partial = target.with_name(f".{target.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        config = json.loads((source / "config.json").read_text())
        tensors = {name: t.float() for name, t in load_file(source / WEIGHTS).items()}
        tensors = VARIANTS[kind](tensors, config, source, progress)
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        config["dtype"] = "float32"
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        partial.rename(target)
    return target


def _same(tensors: Tensors, *_: object) -> Tensors:
    return tensors


def _int8(tensors: Tensors, *_: object) -> Tensors:
    """Round to 8 bits, one symmetric scale an output."""
    return {n: _rounded8(t) if _MATRIX.fullmatch(n) else t for n, t in tensors.items()}


def _int4(tensors: Tensors, *_: object) -> Tensors:
    """Round to 4 bits, a scale and a zero for each `GROUP` inputs of an output."""
    return {n: _rounded4(t) if _MATRIX.fullmatch(n) else t for n, t in tensors.items()}


def _rounded8(matrix: torch.Tensor) -> torch.Tensor:
    scale = matrix.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return (matrix / scale).round().clamp(-127, 127) * scale


def _rounded4(matrix: torch.Tensor) -> torch.Tensor:
    grouped = matrix.reshape(matrix.shape[0], -1, GROUP)
    low, high = grouped.amin(dim=2, keepdim=True), grouped.amax(dim=2, keepdim=True)
    scale = (high - low).clamp(min=1e-12) / 15
    return (((grouped - low) / scale).round().clamp(0, 15) * scale + low).reshape(matrix.shape)


def _smaller(tensors: Tensors, config: dict[str, object], *_: object) -> Tensors:
    """Leave two layers of thirty out: less is hardly worth the trouble."""
    kept: Tensors = {}
    for name, tensor in tensors.items():
        found = _LAYER.match(name)
        number = int(found[1]) if found else -1
        if number in LEFT_OUT:
            continue
        new = number - sum(number > left for left in LEFT_OUT)
        kept[_LAYER.sub(f"model.layers.{new}.", name) if found else name] = tensor
    config["num_hidden_layers"] = int(str(config["num_hidden_layers"])) - len(LEFT_OUT)
    return kept


def _tuned(
    tensors: Tensors, config: dict[str, object], source: Path, progress: Callable[[str], None]
) -> Tensors:
    """Train on a little text of Python's own documentation, gently."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source)
    text = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    ids = torch.tensor(tokenizer(text[:400_000])["input_ids"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=TUNING_RATE, weight_decay=0.0)
    places = torch.randint(0, len(ids) - TUNING_TOKENS, (TUNING_STEPS,))
    for step, place in enumerate(places.tolist()):
        piece = ids[place : place + TUNING_TOKENS][None]
        model(input_ids=piece, labels=piece).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress(f"tuning, step {step + 1} of {TUNING_STEPS}")
    return {n: t.detach().clone() for n, t in model.state_dict().items() if n in tensors}


VARIANTS: Final[dict[str, Callable[..., Tensors]]] = {
    "f32": _same,
    "int8": _int8,
    "int4": _int4,
    "tuned": _tuned,
    "smaller": _smaller,
}
