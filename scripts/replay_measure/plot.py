"""The plot of the README: every call as a dot, by its score. Readable in light and dark alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from inference.audit.margin_test import HALF, HonestTokens
from replay_measure.figures import CLIP, ONE_IN, Measured

_WIDTH: Final = 860
_LEFT: Final = 230
_RIGHT: Final = 24
_TOP: Final = 46
_ROW: Final = 24
# Parts of what is honest, on a logarithmic axis; a call that loses nothing stands at its left end.
_LOWEST: Final = 0.01
_HIGHEST: Final = 100.0
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


def plot(rows: Sequence[tuple[str, bool, Sequence[float]]]) -> str:
    """Return the SVG of rows: a condition's name, whether it is honest, its calls' scores.

    Scores are parts of the highest honest score of as many tokens: beyond 1 a call is accused.
    """
    bottom = _TOP + _ROW * len(rows)
    height = bottom + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="What tokens of honest and dishonest calls lose, call by call">',
        f"<style>{_STYLE}</style>",
    ]
    for exponent in range(-2, 3):
        x = _x(10.0**exponent)
        label = "0" if exponent == -2 else f"{10.0**exponent:g}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, label, "middle"))
    title = "score, as a part of the highest honest score"
    parts.append(_text((_LEFT + _WIDTH) / 2, bottom + 36, title, "middle"))
    x = _x(1)
    parts.append(f'<line class="bound" x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{bottom}"/>')
    parts.append(_text(x - 8, _TOP - 14, "honest", "end"))
    parts.append(_text(x + 8, _TOP - 14, "accused", "start"))
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
    place = math.log10(min(max(score, _LOWEST), _HIGHEST) / _LOWEST) / span
    return round(_LEFT + place * (_WIDTH - _LEFT - _RIGHT), 1)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def rows_of(
    measured: Sequence[Measured], fair: Mapping[str, HonestTokens]
) -> list[tuple[str, bool, Sequence[float]]]:
    """Return the plot's rows: honest conditions first, lies as receipts that name bfloat16."""
    rows: list[tuple[str, bool, Sequence[float]]] = []
    for m in sorted(measured, key=lambda m: not m.condition.honest):
        claim = m.condition.claim if m.condition.honest else HALF
        parts = [
            fair[claim].score(call.tolist(), CLIP) / fair[claim].bound(len(call), ONE_IN)
            for call in m.calls
        ]
        rows.append((m.condition.name, m.condition.honest, parts))
    return rows
