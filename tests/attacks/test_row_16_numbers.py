"""Row 16: weights that are no numbers, or too small to be any. The library lets them pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.manifest import Serving
from tests.attacks.hall import Hall
from tests.attacks.safetensors_bytes import WEIGHTS, library_reads
from tests.inference import tiny_models

NAME = "model.layers.1.mlp.up_proj.weight"
SMALLEST = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
Spoil = Callable[[torch.Tensor], None]


def filled(value: float) -> Spoil:
    return lambda tensor: tensor.fill_(value)  # type: ignore[return-value]


def one(value: float, at: int) -> Spoil:
    def spoil(tensor: torch.Tensor) -> None:
        tensor.view(-1)[at] = value

    return spoil


def bits(pattern: int) -> Spoil:
    """One element of exactly these bits: there are many NaNs."""

    def spoil(tensor: torch.Tensor) -> None:
        tensor.view(-1).view(torch.int32)[5] = pattern

    return spoil


def denormals(tensor: torch.Tensor) -> None:
    """Nothing but denormal numbers, of both signs and all sizes."""
    smallest = torch.finfo(tensor.dtype).smallest_normal
    steps = torch.linspace(0.1, 0.9, tensor.numel(), dtype=torch.float64)
    steps[::2] *= -1
    tensor.copy_((steps * smallest).to(tensor.dtype).view(tensor.shape))


def denormals_and_zeros(tensor: torch.Tensor) -> None:
    denormals(tensor)
    tensor.view(-1)[::3] = 0.0


SPOILS: dict[str, tuple[Spoil, str]] = {
    "NaN everywhere": (filled(float("nan")), "NaN|not a number|finite"),
    "infinity everywhere": (filled(float("inf")), "[Ii]nfinit|finite"),
    "minus infinity everywhere": (filled(float("-inf")), "[Ii]nfinit|finite"),
    "NaN in the first place": (one(float("nan"), 0), "NaN|not a number|finite"),
    "NaN in the last place": (one(float("nan"), -1), "NaN|not a number|finite"),
    "infinity in one place": (one(float("inf"), 1000), "[Ii]nfinit|finite"),
    "minus infinity in one place": (one(float("-inf"), 1000), "[Ii]nfinit|finite"),
    "only denormal": (denormals, "denormal|subnormal"),
    "only denormal and zero": (denormals_and_zeros, "denormal|subnormal"),
}


def spoilt(folder: Path, spoil: Spoil, name: str = NAME) -> None:
    tensors = load_file(folder / WEIGHTS)
    spoil(tensors[name])
    save_file(tensors, folder / WEIGHTS)
    found = library_reads((folder / WEIGHTS).read_bytes())
    assert found[name].shape == tensors[name].shape, "the library accepts it"


@pytest.mark.parametrize("dtype", SMALLEST, ids=SMALLEST.values())
@pytest.mark.parametrize("case", SPOILS)
def test_weights_that_are_no_numbers_are_refused(
    hall: Hall, tmp_path: Path, case: str, dtype: torch.dtype
) -> None:
    spoil, rule = SPOILS[case]
    folder = tiny_models.llama(tmp_path / "bad", dtype=dtype)
    serving = Serving(SMALLEST[dtype], 64, 32).to_json()
    spoilt(folder, spoil)
    refusal = hall.refuses(hall.forge(folder, serving=serving), rule)
    assert NAME in refusal.text


@pytest.mark.parametrize("pattern", [0x7FC00000, 0x7F800001, 0x7FBFFFFF, -1, -0x400000], ids=hex)
def test_every_kind_of_nan_is_refused(hall: Hall, folder: Path, pattern: int) -> None:
    spoilt(folder, bits(pattern))
    refusal = hall.refuses(hall.forge(folder), "NaN|not a number|finite")
    assert NAME in refusal.text


@pytest.mark.parametrize(
    "name",
    ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"],
)
def test_nan_is_refused_in_any_tensor(hall: Hall, folder: Path, name: str) -> None:
    spoilt(folder, one(float("nan"), 3), name)
    refusal = hall.refuses(hall.forge(folder), "NaN|not a number|finite")
    assert name in refusal.text


def test_a_tensor_of_one_denormal_in_a_model_of_others_is_refused(
    hall: Hall, tmp_path: Path
) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "bad")
    spoilt(folder, denormals, "classifier.bias")
    serving = Serving("F32", 64, 0).to_json()
    case = hall.forge(
        folder, task="classify", architecture="BertForSequenceClassification", serving=serving
    )
    refusal = hall.refuses(case, "denormal|subnormal")
    assert "classifier.bias" in refusal.text


def test_the_memory_of_weights_that_are_refused_is_given_back(hall: Hall, tmp_path: Path) -> None:
    """They were read to where they would compute before their last value was seen."""
    folder = tiny_models.llama(tmp_path / "bad", hidden=512)
    spoilt(folder, one(float("nan"), -1), "model.norm.weight")
    size_mb = (folder / WEIGHTS).stat().st_size / 2**20
    case = hall.forge(folder)
    refusals = [hall.refuses_here(case, "NaN") for _ in range(10)]
    assert size_mb > 15
    # What is taken at most is the weights once; what is left, less than one of ten.
    assert max(refusal.growth_mb for refusal in refusals[2:]) < 2 * size_mb + 16
    assert refusals[-1].resident_mb - refusals[2].resident_mb < size_mb


# What is no attack: honest models hold zeros, and a denormal here and there.


def test_zeros_are_numbers(hall: Hall, folder: Path) -> None:
    spoilt(folder, filled(0.0))
    hall.accepts(hall.forge(folder))


def test_a_denormal_among_others_is_a_number(hall: Hall, folder: Path) -> None:
    spoilt(folder, one(1e-40, 7))
    hall.accepts(hall.forge(folder))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_number_is_one(hall: Hall, folder: Path, sign: int) -> None:
    spoilt(folder, one(sign * torch.finfo(torch.float32).max, 7))
    hall.accepts(hall.forge(folder))
