"""The regular expressions by which published tokenizers cut a text into words.

A pattern is run by a backtracking engine over texts of strangers, so one that was made for it can
take the node's time. Only these are run; each was measured to take time in proportion to the text.
"""

from __future__ import annotations

from typing import Final

# Llama 3: tokenizer.json of meta-llama/Meta-Llama-3-8B, equal to OpenAI's cl100k_base, from which
# it was made (tiktoken, openai_public.py).
LLAMA_3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Qwen2 and Qwen2.5: transformers, models/qwen2/tokenization_qwen2.py, PRETOKENIZE_REGEX.
QWEN_2: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# GPT-2: openai/gpt-2, src/encoder.py. The step ByteLevel has it built in; some files write it out.
GPT_2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

KNOWN: Final = frozenset({GPT_2, LLAMA_3, QWEN_2})
