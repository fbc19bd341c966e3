"""Verified loading against plain loading of the same model, all sides in one run. JSON on stdout.

Of the weights alone:

- `plain` is safetensors' own load of the files, every byte touched once, as computing would.
- `hash` is SHA-256 over the same bytes on all processors: what no verification can be without.
- `verified` opens the weight files, proves their headers, reads every byte to where it computes,
  hashes it there, looks for NaN and infinity, and compares all digests with the manifest.

Of a whole model, ready to compute (tokenizer, template and module included):

- `pretrained` is transformers' from_pretrained of model and tokenizer, which verifies nothing.
- `whole` is verifying against the chain's record, and loading.

Cold runs begin with the files out of the page cache. The goal is that `verified` takes at most
1.25 times `plain` or 1.1 times `hash`, whichever is longer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from subject import Subject, register
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference.demo.models import prepare_smollm2
from inference.engine.device import choose_device, describe
from inference.engine.dtypes import DTYPES
from inference.engine.placement import place
from inference.loader import load
from inference.resident import check_placed
from registry.chain.devnet import Devnet
from registry.hashing.parallel import parallel_map, processors
from registry.hashing.weight_file import FolderWeights

_SPAN_BYTES = 4 * 1024 * 1024


def main(arguments: Sequence[str]) -> None:
    """Measure, alternating between the sides, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="a model folder; default: SmolLM2, prepared")
    parser.add_argument("--task", default="chat", choices=["chat", "classify", "embed"])
    parser.add_argument("--dtype", choices=["F32", "BF16", "F16"], help="convert the weights first")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    root = Path(__file__).resolve().parent.parent
    folder = options.folder or prepare_smollm2(root / ".cache" / "models" / "smollm2")
    where = choose_device(options.device)
    with TemporaryDirectory() as made, Devnet.start() as net:
        if options.dtype:
            folder = _converted(folder, Path(made) / folder.name, options.dtype)
        subject = register(net, folder, options.task)
        sides: dict[str, Callable[[], None]] = {
            "plain": lambda: _plain(subject),
            "hash": lambda: _hash(subject),
            "verified": lambda: _verified(subject, where),
            "pretrained": lambda: _pretrained(subject, where),
            "whole": lambda: _whole(subject, options.device),
        }
        result = {
            "bench": "loading",
            "machine": f"{processors()} x {platform.machine()}",
            "torch": torch.__version__,
            "device": describe(where),
            "folder": folder.name,
            "dtype": options.dtype or "as it is",
            "weight_bytes": subject.size,
            "runs": options.runs,
            "cold": _measure(subject, sides, options.runs, cold=True),
            "warm": _measure(subject, sides, options.runs, cold=False),
        }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _measure(
    subject: Subject, sides: dict[str, Callable[[], None]], runs: int, *, cold: bool
) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, side in sides.items():
            if cold:
                _forget(subject)
            begin = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - begin)
    medians = {f"{name}_s": statistics.median(times) for name, times in seconds.items()}
    goal = max(1.25 * medians["plain_s"], 1.1 * medians["hash_s"])
    medians["verified_over_plain"] = medians["verified_s"] / medians["plain_s"]
    medians["verified_over_hash"] = medians["verified_s"] / medians["hash_s"]
    medians["verified_over_goal"] = medians["verified_s"] / goal
    medians["whole_over_pretrained"] = medians["whole_s"] / medians["pretrained_s"]
    return {name: round(value, 4) for name, value in medians.items()}


def _plain(subject: Subject) -> None:
    for path in subject.weights:
        for tensor in load_file(path).values():
            tensor.view(-1).view(torch.int16).max()


def _hash(subject: Subject) -> None:
    spans = (
        (path, start)
        for path in subject.weights
        for start in range(0, path.stat().st_size, _SPAN_BYTES)
    )
    for _ in parallel_map(_hash_span, spans):
        pass


def _hash_span(span: tuple[Path, int]) -> bytes:
    path, start = span
    with open(path, "rb", buffering=0) as file:
        return hashlib.sha256(os.pread(file.fileno(), _SPAN_BYTES, start)).digest()


def _verified(subject: Subject, where: torch.device) -> None:
    rule = subject.manifest.tensor_rule
    files = [
        FolderWeights(subject.folder, file, subject.manifest.headers[file.path])
        for file in subject.manifest.files
        if file.path.endswith(".safetensors")
    ]
    placed = place(files, where, rule)
    check_placed(placed, subject.manifest.tensors, rule)
    for opened in files:
        opened.close()


def _pretrained(subject: Subject, where: torch.device) -> None:
    # "auto" keeps the weights' own dtype, as the verified side does.
    model = AutoModelForCausalLM.from_pretrained(subject.folder, dtype="auto")
    torch.nn.Module.to(model, where)
    AutoTokenizer.from_pretrained(subject.folder)


def _whole(subject: Subject, device: str) -> None:
    with subject.verify() as verified:
        load(verified, device=device)


def _converted(folder: Path, copy: Path, dtype: str) -> Path:
    shutil.copytree(folder, copy)
    for path in copy.glob("*.safetensors"):
        tensors = {name: tensor.to(DTYPES[dtype]) for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    return copy


def _forget(subject: Subject) -> None:
    """Put the files out of the page cache."""
    for path in subject.weights:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main(sys.argv[1:])
