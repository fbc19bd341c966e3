"""tokenizer.json files built as published ones are, with vocabularies of a few tokens.

Steps and fields are those of the files of meta-llama/Llama-2-7b, meta-llama/Meta-Llama-3-8B,
Qwen/Qwen2.5-0.5B, openai-community/gpt2, google-bert/bert-base-uncased and
HuggingFaceTB/SmolLM2-135M; only the tokens are fewer.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import pre_tokenizers

from registry.text.split_patterns import LLAMA_3, QWEN_2

BYTES = {letter: id for id, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
MERGES = [["Ġ", "t"], ["h", "e"], ["Ġt", "he"]]
BYTE_VOCAB = {**BYTES, "Ġt": 256, "he": 257, "Ġthe": 258}


def added(content: str, id: int, **flags: bool) -> dict[str, Any]:
    value = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, **value, "special": True, **flags}


def byte_level(*, prefix: bool = False, trim: bool = True, regex: bool = True) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": prefix,
        "trim_offsets": trim,
        "use_regex": regex,
    }


def split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def template(before: str | None, id: int, *, after: str | None = None) -> dict[str, Any]:
    def around(text: str, type_id: int) -> list[dict[str, Any]]:
        pieces = [{"Sequence": {"id": text, "type_id": type_id}}]
        if before is not None:
            pieces.insert(0, {"SpecialToken": {"id": before, "type_id": type_id}})
        if after is not None:
            pieces.append({"SpecialToken": {"id": after, "type_id": type_id}})
        return pieces

    named = [(before, id), (after, id + 1)]
    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]}
            for name, number in named
            if name is not None
        },
    }


def bpe(vocab: dict[str, int], merges: list[Any], **fields: Any) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(vocab),
        "merges": list(merges),
        **fields,
    }


def whole(**parts: Any) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        **parts,
    }


def llama_3() -> dict[str, Any]:
    return whole(
        added_tokens=[added("<|begin_of_text|>", 259), added("<|eot_id|>", 260)],
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [split(LLAMA_3), byte_level(regex=False)],
        },
        post_processor={
            "type": "Sequence",
            "processors": [byte_level(prefix=True, trim=False), template("<|begin_of_text|>", 259)],
        },
        decoder=byte_level(prefix=True),
        model=bpe(BYTE_VOCAB, [" ".join(merge) for merge in MERGES], ignore_merges=True),
    )


def qwen_2() -> dict[str, Any]:
    return whole(
        added_tokens=[added("<|endoftext|>", 259), added("<|im_end|>", 260)],
        normalizer={"type": "NFC"},
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [split(QWEN_2), byte_level(trim=False, regex=False)],
        },
        post_processor=byte_level(trim=False, regex=False),
        decoder=byte_level(trim=False, regex=False),
        model=bpe(
            BYTE_VOCAB,
            [" ".join(merge) for merge in MERGES],
            continuing_subword_prefix="",
            end_of_word_suffix="",
        ),
    )


def gpt_2() -> dict[str, Any]:
    model = bpe(BYTE_VOCAB, [" ".join(merge) for merge in MERGES])
    # An old file: it does not name the model's type, and lacks fields that came later.
    for name in ("type", "byte_fallback", "ignore_merges"):
        del model[name]
    old = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return whole(
        added_tokens=[added("<|endoftext|>", 259, normalized=True)],
        pre_tokenizer=old,
        post_processor={**old, "add_prefix_space": True, "trim_offsets": False},
        decoder={**old, "add_prefix_space": True},
        model=model,
    )


def smollm_2() -> dict[str, Any]:
    return whole(
        added_tokens=[added("<|im_start|>", 259), added("<|im_end|>", 260)],
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level()],
        },
        decoder=byte_level(prefix=True),
        model=bpe(BYTE_VOCAB, MERGES),
    )


def llama_2() -> dict[str, Any]:
    letters = "▁abcdefghijklmnopqrstuvwxyzABC"
    words = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *letters,
        "▁t",
        "he",
    ]
    return whole(
        added_tokens=[added(word, id) for id, word in enumerate(("<unk>", "<s>", "</s>"))],
        normalizer={
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        post_processor=template("<s>", 1),
        decoder={
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        model=bpe(
            {word: id for id, word in enumerate(words)},
            ["▁ t", "h e"],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        ),
    )


def tiny_llama() -> dict[str, Any]:
    """As transformers writes sentencepiece models since version 4.40: Metaspace does the work."""
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return {**llama_2(), "normalizer": None, "pre_tokenizer": space}


def bert() -> dict[str, Any]:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "##er", "fox", "."]
    return whole(
        truncation={"max_length": 128, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 128},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        added_tokens=[added(word, id) for id, word in enumerate(words[:5])],
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=template("[CLS]", 2, after="[SEP]"),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        model={
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: id for id, word in enumerate(words)},
        },
    )


ALL = {
    build.__name__: build()
    for build in (llama_2, tiny_llama, llama_3, qwen_2, gpt_2, smollm_2, bert)
}


def data(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
