"""The demo's models: made once, atomically, and of the shape that is registered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.demo import models
from inference.demo.models import prepare_minilm, prepare_smollm2, wheel_file
from registry.errors import ConfigError

CACHE = Path(__file__).parents[3] / ".cache" / "models"


def test_a_wheel_that_is_not_installed_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="no-such-wheel is not installed") as caught:
        wheel_file("no-such-wheel", ".gguf")
    assert "make setup" in caught.value.hint


def test_a_preparation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_minilm(tmp_path / "minilm", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".minilm.lock"]


def test_minilm_is_prepared_once(tmp_path: Path) -> None:
    steps: list[str] = []
    folder = prepare_minilm(tmp_path / "minilm", steps.append)
    assert len(steps) == models.MINILM_STEPS
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert prepare_minilm(folder, steps.append) == folder
    assert len(steps) == models.MINILM_STEPS
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert "embeddings.position_ids" not in load_file(folder / "model.safetensors")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None


def test_smollm2_is_plain_bf16_safetensors() -> None:
    folder = prepare_smollm2(CACHE / "smollm2")
    assert {path.name for path in folder.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in tensors.values()) == 134_515_008
