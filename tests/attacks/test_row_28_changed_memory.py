"""Row 28: weights change in the memory of a running node, after everything was verified.

The attacker writes into the node's process from outside, as a faulty memory would, or a program
with the same rights. `tests/e2e/test_bit_flip.py` changes one bit of each kind of tensor.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.attacks.hall import GOOD, INTERVAL_S, Hall
from tests.attacks.safetensors_bytes import WEIGHTS
from tests.inference.tiny_models import edit_json

# The interval, and what busy processors may add.
BOUND_S = INTERVAL_S + 10
THETA = 4321.0
NORM = "model.norm.weight"
UP = "model.layers.1.mlp.up_proj.weight"
LAST = "model.layers.1.self_attn.o_proj.weight"
# The kernels' copy of the norms holds the same bytes: both change, and the patrol names the one
# it comes to first.
COPIES = {NORM: "packed.norms"}


def flip(process: int, data: bytes, *, at: int, bit: int) -> int:
    """Flip a bit of each place in a process's memory that holds `data`; return how many."""
    places = 0
    with open(f"/proc/{process}/mem", "r+b", buffering=0) as memory:
        for begin, end in _writable(process):
            memory.seek(begin)
            try:
                held = memory.read(end - begin)
            except OSError:
                continue  # a mapping that cannot be read holds no weights
            for match in re.finditer(re.escape(data), held):
                address = begin + match.start() + at
                memory.seek(address)
                (value,) = memory.read(1)
                memory.seek(address)
                memory.write(bytes([value ^ 1 << bit]))
                places += 1
    return places


def _writable(process: int) -> list[tuple[int, int]]:
    found = []
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        places, rights, _, device, *_ = line.split()
        if rights.startswith("rw") and device == "00:00":
            begin, end = (int(place, 16) for place in places.split("-"))
            found.append((begin, end))
    return found


def unlike(folder: Path) -> dict[str, torch.Tensor]:
    """Make the folder a model of its own, whose bytes are nowhere else; return its tensors."""
    seed = int.from_bytes(os.urandom(4), "big")
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(folder / WEIGHTS)
    for tensor in tensors.values():
        tensor.normal_(0.0, 0.3, generator=generator)
    save_file(tensors, folder / WEIGHTS)
    theta = THETA + seed % 1000
    parameters = {"rope_type": "default", "rope_theta": theta}
    edit_json(folder / "config.json", rope_parameters=parameters)
    positions = torch.arange(0, 8, 2, dtype=torch.float)
    return tensors | {"inv_freq": 1.0 / theta ** (positions / 8)}


@pytest.mark.parametrize(
    ("name", "at", "bit"),
    [
        (UP, 0, 0),
        (UP, -1, 7),
        (NORM, 5, 3),
        (LAST, 1000, 6),
        ("lm_head.weight", 1, 1),
        # In no file and no manifest: computed when the model was loaded.
        ("inv_freq", 6, 2),
    ],
)
def test_a_bit_that_changes_in_a_nodes_memory_stops_the_model_before_more_is_charged(
    hall: Hall, folder: Path, name: str, at: int, bit: int
) -> None:
    def named(text: str) -> bool:
        return any(changed in text for changed in (name, COPIES.get(name, name)))

    data = unlike(folder)[name].numpy().tobytes()
    case = hall.register(folder)
    with hall.on_sale(case, "bent"):
        assert hall.pay(model="bent").charged > 0
        before = hall.books()
        assert flip(hall.node._process.pid, data, at=at % len(data), bit=bit) > 0
        ends = time.monotonic() + BOUND_S
        while (answer := hall.ask("bent", "Hello")).status_code == 402:
            assert time.monotonic() < ends, "the model is still sold"
            time.sleep(0.05)
        assert answer.status_code == 410
        assert answer.json()["error"]["code"] == "model_stopped"
        assert "changed in memory" in answer.json()["error"]["message"]
        assert named(answer.json()["error"]["message"])
        assert hall.books().rows == before.rows
        # A model is stopped first, and then it is told.
        while not any(named(json.dumps(entry)) for entry in hall.log_entries("incident")[-5:]):
            assert time.monotonic() < ends, "the log says nothing"
            time.sleep(0.05)
        assert hall.ask(GOOD, "Hello").status_code == 402
