"""What the loader makes: the same numbers as the reference, from the verified bytes themselves."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from inference.loader import load
from registry.hashing.resident_digest import resident_digest
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

MODELS = [
    (tiny_models.llama, "chat", AutoModelForCausalLM),
    (tiny_models.qwen2, "chat", AutoModelForCausalLM),
    (tiny_models.gpt2, "chat", AutoModelForCausalLM),
    (tiny_models.bert_classifier, "classify", AutoModelForSequenceClassification),
    (tiny_models.bert, "embed", AutoModel),
]


@pytest.mark.parametrize(
    ("make", "task", "reference"), MODELS, ids=lambda v: getattr(v, "__name__", v)
)
def test_every_architecture_computes_what_transformers_computes(
    shelf: Shelf, tmp_path: Path, make: Callable[..., Path], task: str, reference: type
) -> None:
    folder = make(tmp_path / make.__name__)
    with shelf.verified(folder, task=task) as verified:
        loaded = load(verified, device="cpu", threads=1)
    expected = reference.from_pretrained(folder)
    ids = torch.tensor([[1, 5, 9, 200, 31, 7]])
    with torch.inference_mode():
        assert torch.equal(loaded.module(ids)[0], expected(ids)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_keep_the_dtype_they_were_registered_in(
    shelf: Shelf, tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = tiny_models.llama(tmp_path / "tiny", dtype=dtype, tied=True)
    with shelf.verified(folder, task="chat") as verified:
        loaded = load(verified, device="cpu", threads=1)
    assert {parameter.dtype for parameter in loaded.module.parameters()} == {dtype}
    # What no file holds is computed in single precision, as the architecture does.
    assert loaded.module.model.rotary_emb.inv_freq.dtype is torch.float32
    assert loaded.module.lm_head.weight is loaded.module.model.embed_tokens.weight
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    ids = torch.tensor([[1, 5, 9, 200, 31, 7]])
    with torch.inference_mode():
        assert torch.equal(loaded.module(ids).logits, expected(ids).logits)


def test_tensors_are_the_verified_bytes_without_a_copy(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    with shelf.verified(folder, task="chat") as verified:
        loaded = load(verified, device="cpu", threads=1)
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = list(file.offset_keys())
    starts = [loaded.module.get_parameter(name).data_ptr() for name in names]
    sizes = [loaded.module.get_parameter(name).nbytes for name in names]
    # They lie one after another, as in the file.
    assert starts == [starts[0] + sum(sizes[:number]) for number in range(len(sizes))]


def test_a_model_outlives_the_files_it_was_loaded_from(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    with shelf.verified(folder, task="chat") as verified:
        loaded = load(verified, device="cpu", threads=1)
    del verified
    gc.collect()
    assert loaded.resident.changed() is None


def test_a_sharded_model_loads(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    whole = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    with shelf.verified(folder, task="chat") as verified:
        loaded = load(verified, device="cpu", threads=1)
    ids = torch.tensor([[1, 5, 9]])
    with torch.inference_mode():
        assert torch.equal(loaded.module(ids).logits, whole(ids).logits)


def test_a_loaded_model_states_what_it_is(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "reviews", ("bad", "good", "unsure"))
    done: list[int] = []
    with shelf.verified(folder, task="classify") as verified:
        loaded = load(
            verified,
            device="auto" if not torch.cuda.is_available() else "cpu",
            threads=1,
            progress=done.append,
        )
        manifest = verified.manifest
    assert (loaded.name, loaded.task, loaded.dtype, loaded.device) == (
        "reviews",
        "classify",
        "F32",
        "cpu",
    )
    assert loaded.labels == ("bad", "good", "unsure")
    assert loaded.vocabulary == tiny_models.VOCABULARY
    assert loaded.threads == 1
    assert sum(done) == sum(p.nbytes for p in loaded.module.parameters())
    promised = {entry.name: entry.digest for entry in manifest.tensors}
    assert loaded.resident.digest == resident_digest(promised)


def test_end_tokens_come_from_the_generation_configuration(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    tiny_models.edit_json(folder / "generation_config.json", eos_token_id=[256, 257])
    with shelf.verified(folder, task="chat") as verified:
        assert load(verified, device="cpu").end_ids == {256, 257}


def test_a_template_may_stand_in_the_tokenizer_configuration(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    (folder / "chat_template.jinja").unlink()
    tiny_models.edit_json(folder / "tokenizer_config.json", chat_template="{{ eos_token }}!")
    with shelf.verified(folder, task="chat") as verified:
        loaded = load(verified, device="cpu")
    assert loaded.template is not None
    assert loaded.template.render([{"role": "user", "content": "x"}]) == "<|end|>!"
