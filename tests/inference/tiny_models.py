"""Model folders with random weights: every architecture of the allow-list, small enough to make."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# As Hermes and Qwen teach it, in few words.
TOOL_TEMPLATE = (
    "{% if tools %}<|system|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    'Answer <tool_call>{"name": …, "arguments": …}</tool_call>.<|end|>{% endif %}'
    "{% for message in messages %}"
    "<|{{ 'user' if message['role'] == 'tool' else message['role'] }}|>"
    "{{ message['content'] }}{% for call in message['tool_calls'] or [] %}"
    '<tool_call>{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}</tool_call>{% endfor %}<|end|>'
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
# 256 bytes and the special tokens.
VOCABULARY = 256 + len(SPECIAL)
END_ID = 256
CONTEXT = 128


def llama(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    tied: bool = False,
    context: int = CONTEXT,
    hidden: int = 32,
    template: str = TEMPLATE,
) -> Path:
    return _chat_model(
        folder,
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=hidden,
                intermediate_size=2 * hidden,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=context,
                tie_word_embeddings=tied,
                **_TOKENS,
            )
        ).to(dtype),
        template,
    )


def qwen2(folder: Path, *, context: int = CONTEXT) -> Path:
    return _chat_model(
        folder,
        Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=VOCABULARY,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=context,
                **_TOKENS,
            )
        ),
    )


def gpt2(folder: Path, *, context: int = CONTEXT) -> Path:
    return _chat_model(
        folder,
        GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_positions=context,
                n_embd=32,
                n_layer=2,
                n_head=4,
                **_TOKENS,
            )
        ),
    )


def bert_classifier(folder: Path, labels: tuple[str, ...] = ("negative", "positive")) -> Path:
    config = _bert_config(
        id2label=dict(enumerate(labels)), label2id={name: n for n, name in enumerate(labels)}
    )
    return _save(folder, BertForSequenceClassification(config), _tokenizer(wrapped=True))


def bert(folder: Path) -> Path:
    return _save(folder, BertModel(_bert_config()), _tokenizer(wrapped=True))


def vit(folder: Path, labels: tuple[str, ...] = ("cat", "dog", "fish")) -> Path:
    """A classifier of images of 32 by 32 pixels in 16 patches, and its recipe; no tokenizer."""
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        id2label=dict(enumerate(labels)),
        label2id={name: n for n, name in enumerate(labels)},
    )
    _save_weights(folder, ViTForImageClassification(config))
    recipe = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "ViTImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 32, "width": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))
    return folder


def edit_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file; None removes one."""
    value = json.loads(path.read_text())
    for key, item in changes.items():
        value.pop(key, None)
        if item is not None:
            value[key] = item
    path.write_text(json.dumps(value))


_TOKENS = {"bos_token_id": None, "eos_token_id": END_ID, "pad_token_id": END_ID}


def _bert_config(**more: object) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        **more,
    )


def _chat_model(folder: Path, model: PreTrainedModel, template: str = TEMPLATE) -> Path:
    _save(folder, model, _tokenizer(wrapped=False))
    (folder / "chat_template.jinja").write_text(template)
    return folder


def _save(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer) -> Path:
    _save_weights(folder, model)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SPECIAL[0]}))
    return folder


def _save_weights(folder: Path, model: PreTrainedModel) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            # Wide enough that the next token depends on what was read.
            parameter.normal_(0.0, 0.3, generator=generator)
    model.save_pretrained(folder)


def _tokenizer(*, wrapped: bool) -> Tokenizer:
    """Bytes as tokens; `wrapped` puts an end token after each text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    if wrapped:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {SPECIAL[0]}", special_tokens=[(SPECIAL[0], END_ID)]
        )
    return tokenizer
