"""The fixed texts and conversations that golden vectors are made of.

Each stands for a way in which tokenizers and templates have been seen to differ. The set may grow:
a manifest carries its own texts, so that older ones stay checkable.
"""

from __future__ import annotations

from typing import Final, TypeAlias

# A conversation: (role, content) of each message.
Chat: TypeAlias = tuple[tuple[str, str], ...]

TEXTS: Final = (
    "",
    "The quick brown fox jumps over the lazy dog.",
    "I'm sure they'll say it's WE'D or we've; DON'T they?",
    "Crème brûlée à l’œuvre, naïve Ångström, Straße, İstanbul",
    # The same letters as base letters with accents after them.
    "Cre\u0300me bru\u0302le\u0301e A\u030angstro\u0308m",
    "ﬁnance ① Ⅳ ｆｕｌｌ ㎏ ²",
    "人工智能 は かな カタカナ 한국어 汉字漢字",
    "🙂👩‍👩‍👧‍👦🇪🇺👍🏽 ❤️",
    "שלום עולם، مرحبا بالعالم",
    "हिन्दी ภาษาไทย",
    "0 1 12 123 1234 12345678901234567890 3.14159 -7 1,000,000 0x1F",
    "  two   three    four\t\ttabs \n\n\n lines\r\n  end   ",
    'def f(x: int) -> str:\n    return "\\n".join([f"{x!r}" for _ in range(8)])  # 100 %\n',
    "<html>&amp;</html> [INST] </s> <s> {{ 7 * 7 }} {% raw %} ▁ Ġ ## @@",
    # Control characters, invisible ones, the replacement character, a private one.
    "\u0000\u0001\u001b[2J\u007f\u0085\u00a0\u00ad\u200b\u200d\u202e\u2028\ufeff\ufffd\ue000",
    "a" * 300,
)

CHATS: Final[tuple[Chat, ...]] = (
    # Every template must take the first.
    (("user", "Hello"),),
    (("system", "Be brief."), ("user", "What is 2 + 2?")),
    (("user", "Hello"), ("assistant", "Hi! How can I help?"), ("user", "Tell me a joke.")),
    (("user", "  spaces and\nlines\n\n  "),),
    (("user", ""),),
    (("user", "{{ 7 * 7 }} {% raw %} </s> <|im_end|> <|eot_id|> [/INST]"),),
    (("user", "汉字 🙂 שלום é"),),
    (("assistant", "I begin."), ("user", "Do you?")),
    (("system", "Only a system."),),
)
