"""Row 13: configurations that name code to fetch, to import or to build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.hall import Hall
from tests.inference.tiny_models import edit_json

# What each key looks like where it was used to run code.
KEYS: dict[str, Any] = {
    "auto_map": {"AutoModelForCausalLM": "evil/repository--modeling_x.Model"},
    "custom_pipelines": {"text-generation": {"impl": "pipeline_x.Pipeline", "pt": []}},
    "trust_remote_code": True,
    "_target_": "os.system",
    "quantization_config": {"quant_method": "evil_plugin", "modules_to_not_convert": []},
}
READ = ["config.json", "generation_config.json", "tokenizer_config.json"]
INDEX = "model.safetensors.index.json"


@pytest.fixture(autouse=True)
def _code(folder: Path) -> None:
    """What the keys name lies beside the folder, so that whoever imports it is caught."""
    (folder.parent / "modeling_x.py").write_text("raise SystemExit('it was imported')\n")


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_asks_for_code_is_refused(hall: Hall, folder: Path, key: str, name: str) -> None:
    edit_json(folder / name, **{key: KEYS[key]})
    hall.refuses(hall.forge(folder), f"has the key {key}: nothing executable", path=name)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("key", KEYS)
def test_a_nested_key_that_asks_for_code_is_refused(
    hall: Hall, folder: Path, key: str, name: str
) -> None:
    # In an object in a list in an object that is known and otherwise not looked at.
    edit_json(folder / name, label2id={"a": [{"b": {key: KEYS[key]}}]})
    hall.refuses(hall.forge(folder), f"has the key {key}: nothing executable", path=name)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_asks_for_code_is_refused_in_an_index(
    hall: Hall, folder: Path, key: str
) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {key: KEYS[key]}, "weight_map": {}}))
    hall.refuses(hall.forge(folder), f"has the key {key}: nothing executable", path=INDEX)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_other_letters_of_json_is_the_same_key(
    hall: Hall, folder: Path, key: str, name: str
) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    text = (folder / name).read_text().lstrip()
    (folder / name).write_text(f'{{"{escaped}": {json.dumps(KEYS[key])}, {text[1:]}')
    hall.refuses(hall.forge(folder), f"has the key {key}: nothing executable", path=name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Auto_Map", {"AutoModel": "modeling_x.Model"}),
        ("auto_map ", {"AutoModel": "modeling_x.Model"}),
        ("custom_code", "modeling_x.py"),
        ("custom_generate", "evil/repository"),
        ("code_revision", "main"),
        ("attn_implementation", "evil/kernels"),
        ("_attn_implementation", "evil/kernels:forward"),
        ("_attn_implementation_internal", "evil/kernels"),
        ("experts_implementation", "evil/kernels"),
        ("use_kernels", True),
        ("kernel_config", {"RMSNorm": "evil/kernels:RMSNorm"}),
        ("transformers_weights", "../elsewhere.safetensors"),
        ("base_model_tp_plan", {"layers.*": "colwise"}),
        ("compression_config", {"quant_method": "evil"}),
        ("quantization", {"group_size": 64}),
        ("peft_config", {"base_model_name_or_path": "evil/repository"}),
        ("adapter_config", {"peft_type": "LORA"}),
        ("tokenizer_class", "EvilTokenizer"),
        ("processor_class", "EvilProcessor"),
        ("text_config", {"model_type": "llama"}),
        ("vision_config", {"model_type": "evil"}),
        ("__class__", "EvilConfig"),
        ("__init__", "EvilConfig"),
        ("from_pretrained", "evil/repository"),
    ],
)
def test_a_field_that_is_not_known_is_refused(
    hall: Hall, folder: Path, key: str, value: object
) -> None:
    edit_json(folder / "config.json", **{key: value})
    hall.refuses(hall.forge(folder), "has the unknown field", path="config.json")


@pytest.mark.parametrize(
    "named",
    [
        ["EvilForCausalLM"],
        ["MambaForCausalLM"],
        ["llamaforcausallm"],
        ["LlamaForCausalLM "],
        ["LlamaForCausalLM\u200b"],
        ["modeling_x.Model"],
        ["os.system"],
        ["__import__('os').system('true')"],
        ["LlamaForCausalLM", "EvilForCausalLM"],
        ["EvilForCausalLM", "LlamaForCausalLM"],
        ["LlamaForCausalLM", "LlamaForCausalLM"],
        [["LlamaForCausalLM"]],
        [{"LlamaForCausalLM": 1}],
        [1],
        [],
        "LlamaForCausalLM",
        {"LlamaForCausalLM": 1},
        7,
    ],
    ids=repr,
)
def test_an_architecture_that_is_not_on_the_list_is_refused(
    hall: Hall, folder: Path, named: object
) -> None:
    edit_json(folder / "config.json", architectures=named)
    hall.refuses(hall.forge(folder), "architectures is .* not one of Llama", path="config.json")


def test_a_configuration_without_an_architecture_is_refused(hall: Hall, folder: Path) -> None:
    edit_json(folder / "config.json", architectures=None)
    hall.refuses(hall.forge(folder), "architectures is None", path="config.json")


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "EvilForCausalLM"])
def test_a_manifest_of_another_architecture_than_the_configuration_is_refused(
    hall: Hall, folder: Path, name: str
) -> None:
    case = hall.forge(folder, architecture=name)
    hall.refuses(case, f"is not of a {name}, as the manifest says", path="config.json")


@pytest.mark.parametrize("kind", ["evil", "gpt2", "Llama", "", None, ["llama"]], ids=repr)
def test_a_model_type_that_is_not_the_architectures_is_refused(
    hall: Hall, folder: Path, kind: object
) -> None:
    edit_json(folder / "config.json", model_type=kind)
    hall.refuses(hall.forge(folder), "model_type is not llama", path="config.json")


@pytest.mark.parametrize(
    "activation", ["__import__('os')", "evil.Activation", "SILU", ["silu", {}], None, {}], ids=repr
)
def test_an_activation_that_is_not_on_the_list_is_refused(
    hall: Hall, folder: Path, activation: object
) -> None:
    path = folder / "config.json"
    value = json.loads(path.read_text()) | {"hidden_act": activation}
    path.write_text(json.dumps(value))
    hall.refuses(hall.forge(folder), "hidden_act is", path="config.json")


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"vocab_size": 1, "vocab_size": 2}', "has a duplicate key"),
        ('{"a": {"b": 1, "b": 1}}', "has a duplicate key"),
        ('{"vocab_size": 1, "\\u0076ocab_size": 2}', "has a duplicate key"),
        ('{"a": NaN}', "has the number NaN"),
        ('{"a": -Infinity}', "has the number -Infinity"),
        ('{"a": 1e999}', "number|infinit"),
        ('{"a": ' + "9" * 5000 + "}", "has a number too large"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a": 1} {"auto_map": 1}', "is not JSON"),
        ('\ufeff{"a": 1}', "is not JSON"),
        ('{"a": 1,}', "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1 /* comment */}', "is not JSON"),
        ("[]", "is not a JSON object"),
        ("null", "is not a JSON object"),
        ("", "is not JSON"),
        (" " * 1024 * 1024 + "{}", "has 1048578 bytes"),
    ],
    ids=lambda text: text[:24],
)
def test_json_that_two_readers_may_read_differently_is_refused(
    hall: Hall, folder: Path, name: str, text: str, rule: str
) -> None:
    (folder / name).write_text(text)
    hall.refuses(hall.forge(folder), rule, path=name)


@pytest.mark.parametrize("name", READ)
def test_json_that_is_not_utf_8_is_refused(hall: Hall, folder: Path, name: str) -> None:
    for encoding in ("utf-16", "utf-32"):
        (folder / name).write_bytes('{"auto_map": 1}'.encode(encoding))
        hall.refuses(hall.forge(folder), "is not UTF-8|is not JSON", path=name)
    (folder / name).write_bytes(b'{"\xc0\xaf": 1, "\xed\xa0\x80": 1}')
    hall.refuses(hall.forge(folder), "is not UTF-8", path=name)
