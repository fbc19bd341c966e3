"""Row 21: tokenizers that read another text than was sent, or never finish reading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.forgery import forged_golden
from tests.attacks.hall import Case, Hall
from tests.attacks.hostile_tokenizers import ATTACKS, Change, first_special, step
from tests.inference import tiny_models
from tests.inference.tiny_models import VOCABULARY, edit_json

PATH = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION = "generation_config.json"
SECONDS = 15.0


def changed(folder: Path, change: Change) -> None:
    value = json.loads((folder / PATH).read_text())
    change(value)
    (folder / PATH).write_text(json.dumps(value))


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_tokenizer_that_reads_another_text_is_refused(
    hall: Hall, folder: Path, attack: str
) -> None:
    changed(folder, ATTACKS[attack])
    # A word as a token, or two tokens exchanged, is only seen by what comes of it.
    case = hall.forge(folder, golden=forged_golden(hall.folder))
    rule = r"its |has |is not |merges |two tokens|golden|names"
    refusal = hall.refuses(case, rule, path=".json", seconds=SECONDS)
    assert refusal.text.startswith((PATH, TOKENIZER_CONFIG, GENERATION, "config.json"))
    assert len(refusal.text) < 500


# Tokenizers in their own right; that they are not the registered one, only its vectors tell.
ONLY_VECTORS = {
    "special tokens: an ordinary word that ends the answer",
    "special tokens: the end and the user exchanged",
    "special tokens: the end remapped to another id",
}
# Loading knows how many rows the embedding has; registering takes the publisher's word.
REFUSED_AT_REGISTRATION = [
    name
    for name in ATTACKS
    if name.startswith(("special", "vocabulary", "pattern"))
    and name not in ONLY_VECTORS
    and "beyond the embedding" not in name
]


@pytest.mark.parametrize("attack", REFUSED_AT_REGISTRATION)
def test_registering_refuses_it_too(hall: Hall, folder: Path, attack: str) -> None:
    changed(folder, ATTACKS[attack])
    hall.register_refuses(folder, "json: ")


@pytest.mark.parametrize(
    "change",
    [
        lambda value: exchange(value["model"]["vocab"], "a", "b"),
        lambda value: exchange(value["model"]["vocab"], "Ġ", "n"),
        first_special(content="over"),
        first_special(lstrip=True, rstrip=True, content="jumps"),
        step("normalizer", {"type": "NFC"}),
        step(
            "pre_tokenizer",
            {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
        ),
        step("decoder", {"type": "Fuse"}),
        step(
            "post_processor",
            {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<|user|>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}},
                ],
                "special_tokens": {
                    "<|user|>": {"id": "<|user|>", "ids": [257], "tokens": ["<|user|>"]}
                },
            },
        ),
        lambda value: (
            value["model"]["vocab"].update(he=value["model"]["vocab"].pop("ÿ")),
            value["model"].update(merges=[["h", "e"]]),
        ),
    ],
    ids=[
        "two letters exchanged",
        "a space and a letter exchanged",
        "a word that is special",
        "a word that is special and eats spaces",
        "composed letters",
        "a space before",
        "another way to make a text",
        "another token before",
        "a merge more",
    ],
)
def test_a_tokenizer_that_is_sound_but_not_the_registered_one_fails_its_vectors(
    hall: Hall, folder: Path, change: Change
) -> None:
    """The vectors are those that registering makes; a library that changed would look the same."""
    golden = json.loads(hall.manifest_of(hall.good))["golden"]
    changed(folder, change)
    if not any(
        t["content"] == "<|end|>" for t in json.loads((folder / PATH).read_text())["added_tokens"]
    ):
        edit_json(folder / TOKENIZER_CONFIG, eos_token=None)
    case = hall.forge(folder, golden=golden)
    hall.refuses(case, r"golden text \d+ .* than at registration", path=PATH)


def exchange(vocab: dict[str, int], one: str, other: str) -> None:
    vocab[one], vocab[other] = vocab[other], vocab[one]


@pytest.mark.parametrize("what", ["ids", "wrapped", "decoded"])
def test_vectors_that_are_not_the_tokenizers_are_refused(
    hall: Hall, folder: Path, what: str
) -> None:
    golden = forged_golden(folder)
    assert golden is not None
    golden["texts"][0][what] = "Ho" if what == "decoded" else [72, 111]
    case = hall.forge(folder, golden=golden)
    hall.refuses(case, f"golden text 0 .* has other {what}", path=PATH)


def test_a_manifest_without_vectors_is_refused(hall: Hall, folder: Path) -> None:
    manifest = json.loads(hall.manifest_of(hall.forge(folder)))
    del manifest["golden"]
    hall.refuses(Case(hall.publish(manifest), folder), r"step 2.*no golden vectors", path=PATH)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model@2 in name", {"texts": [], "chats": []}),
        ("too many", {"texts": [{"text": "", "ids": [], "wrapped": [], "decoded": ""}] * 65}),
        ("a text of many kilobytes", {"texts": "long"}),
    ],
)
def test_vectors_that_would_take_long_are_refused(
    hall: Hall, folder: Path, name: str, content: dict[str, Any]
) -> None:
    golden = forged_golden(folder)
    assert golden is not None
    if content["texts"] == "long":
        content = {"texts": [golden["texts"][0] | {"text": "a" * 70_000}]}
    case = hall.forge(folder, golden=golden | content)
    hall.refuses(case, r"step 2.*golden", seconds=SECONDS)


# Special tokens of the other files


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (GENERATION, "eos_token_id", VOCABULARY),
        (GENERATION, "eos_token_id", [256, 4096]),
        (GENERATION, "eos_token_id", -1),
        (GENERATION, "eos_token_id", "256"),
        (GENERATION, "eos_token_id", 256.0),
        (GENERATION, "eos_token_id", True),
        (GENERATION, "eos_token_id", 257),
        (GENERATION, "pad_token_id", 2**31),
        (GENERATION, "bos_token_id", 2**31),
        ("config.json", "eos_token_id", VOCABULARY),
        ("config.json", "bos_token_id", VOCABULARY),
        (TOKENIZER_CONFIG, "eos_token", "<|user|>"),
        (TOKENIZER_CONFIG, "eos_token", "<|evil|>"),
        (TOKENIZER_CONFIG, "bos_token", "<|evil|>"),
        (TOKENIZER_CONFIG, "added_tokens_decoder", {"256": {"content": "<|user|>"}}),
        (TOKENIZER_CONFIG, "added_tokens_decoder", {"260": {"content": "<|evil|>"}}),
        (TOKENIZER_CONFIG, "added_tokens_decoder", [1]),
    ],
    ids=str,
)
def test_files_that_disagree_on_special_tokens_are_refused(
    hall: Hall, folder: Path, name: str, key: str, value: object
) -> None:
    edit_json(folder / name, **{key: value})
    hall.refuses(hall.forge(folder), f"{key}|names|lists")


@pytest.mark.parametrize("rows", [VOCABULARY - 1, VOCABULARY - 4, 1], ids=str)
def test_an_embedding_with_fewer_rows_than_tokens_is_refused(
    hall: Hall, tmp_path: Path, rows: int
) -> None:
    """The weights are sound in themselves: a model of fewer words with another's tokenizer."""
    folder = small_vocabulary(tmp_path / "bad", rows)
    hall.refuses(
        hall.forge(folder), f"its highest token id is 259, the model has {rows}", path=PATH
    )


def small_vocabulary(folder: Path, rows: int) -> Path:
    from safetensors.torch import load_file, save_file

    tiny_models.llama(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:rows].clone()
    save_file(tensors, folder / "model.safetensors")
    edit_json(folder / "config.json", vocab_size=rows, eos_token_id=None, pad_token_id=None)
    (folder / GENERATION).unlink()
    return folder


@pytest.mark.parametrize(
    "text",
    [
        '{"version": "1.0", "version": "1.0"}',
        '{"version": NaN}',
        "[]",
        "",
        '{"version": "1.0"}',
        "{" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_is_no_tokenizer_is_refused(hall: Hall, folder: Path, text: str) -> None:
    (folder / PATH).write_text(text)
    hall.register_refuses(folder, PATH)
    hall.refuses(hall.forge(folder), "has |is not|is nested", path=PATH, growth_mb=64)


def test_a_tokenizer_of_many_megabytes_is_refused_unread(hall: Hall, folder: Path) -> None:
    with (folder / PATH).open("ab") as file:
        file.write(b" " * (33 * 1024 * 1024))
    hall.refuses(hall.forge(folder), r"has \d+ bytes, more than", path=PATH, growth_mb=150)


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.model",
        "spiece.model",
        "merges.txt.bak",
        "tokenization_evil.py",
        "tokenizer_evil.json",
        "old/tokenizer.json",
        "tekken.json",
        "vocab.bpe",
    ],
)
def test_a_second_tokenizer_is_refused(hall: Hall, folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes((folder / PATH).read_bytes())
    hall.refuses(hall.forge(folder), r"is of a kind that is not loaded|can run code")
