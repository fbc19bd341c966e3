"""Server-sent events as OpenAI's clients read them (WHATWG HTML, 9.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping

DONE = b"data: [DONE]\n\n"


def event(data: Mapping[str, object]) -> bytes:
    """Return one event; JSON escapes every line break, so one `data:` line holds it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()
