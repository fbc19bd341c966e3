"""The plot of the README: every call as a dot, by what its tokens lost. Light and dark alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from inference.audit.margin_test import HALF, SINGLE

_WIDTH: Final = 860
_LEFT: Final = 230
_RIGHT: Final = 24
_TOP: Final = 46
_ROW: Final = 24
# Scores on a logarithmic axis; a call that loses nothing stands at its left end.
_LOWEST: Final = 1e-5
_HIGHEST: Final = 1.0
_STYLE: Final = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .axis { stroke: #8c959f; stroke-width: 1 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .bound { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 4 3 }
  .honest { fill: #0969da; fill-opacity: .45 }
  .lie { fill: #cf222e; fill-opacity: .45 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .axis { stroke: #7d8590 }
    .grid { stroke: #30363d }
    .bound { stroke: #e6edf3 }
    .honest { fill: #58a6ff; fill-opacity: .55 }
    .lie { fill: #ff7b72; fill-opacity: .55 }
  }
"""


def plot(rows: Sequence[tuple[str, bool, Sequence[float]]], bounds: dict[str, float]) -> str:
    """Return the SVG of rows: a condition's name, whether it is honest, its calls' scores.

    `bounds` are the highest honest scores of 300 tokens, by arithmetic.
    """
    bottom = _TOP + _ROW * len(rows)
    height = bottom + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="What tokens of honest and dishonest calls lose, call by call">',
        f"<style>{_STYLE}</style>",
    ]
    for exponent in range(-5, 1):
        x = _x(10.0**exponent)
        label = "0" if exponent == -5 else f"{10.0**exponent:g}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, label, "middle"))
    parts.append(_text((_LEFT + _WIDTH) / 2, bottom + 36, "logits lost per token", "middle"))
    for arithmetic, name in ((SINGLE, "honest in fp32"), (HALF, "honest in bf16")):
        x = _x(bounds[arithmetic])
        parts.append(f'<line class="bound" x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{bottom}"/>')
        parts.append(_text(x, _TOP - 14, f"≤ {bounds[arithmetic]:.4f} {name}", "middle"))
    for number, (name, honest, scores) in enumerate(rows):
        y = _TOP + _ROW * number + _ROW / 2
        parts.append(_text(_LEFT - 12, y + 4, name, "end"))
        kind = "honest" if honest else "lie"
        for place, score in enumerate(scores):
            # Dots of one score would hide one another.
            shift = (place % 5 - 2) * 2
            parts.append(f'<circle class="{kind}" cx="{_x(score)}" cy="{y + shift:g}" r="3"/>')
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(score: float) -> float:
    span = math.log10(_HIGHEST / _LOWEST)
    place = math.log10(max(score, _LOWEST) / _LOWEST) / span
    return round(_LEFT + place * (_WIDTH - _LEFT - _RIGHT), 1)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def rows_of(measured: Sequence[Any], scores: Any) -> list[tuple[str, bool, Sequence[float]]]:
    """Return the plot's rows: honest conditions first."""
    ordered = sorted(measured, key=lambda m: not m.condition.honest)
    return [(m.condition.name, m.condition.honest, [scores(c) for c in m.calls]) for m in ordered]
