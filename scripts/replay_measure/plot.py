"""The plot of the README: every call as a dot, by its score. Readable in light and dark alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, TypeAlias

from inference.audit.margin_test import HALF, HonestTokens
from replay_measure.figures import CLIP, ONE_IN, Measured

_WIDTH: Final = 940
_LEFT: Final = 266
_RIGHT: Final = 68
_TOP: Final = 66
_ROW: Final = 26
_GAP: Final = 14
# Parts of what is honest, on a logarithmic axis; a call that loses less stands left of it.
_LOWEST: Final = 0.01
_HIGHEST: Final = 100.0
_RADIUS: Final = 3.0
# Where dots may stand beside their row's middle, so that they do not hide one another.
_LANES: Final = (0, -4, 4, -8, 8)
_STYLE: Final = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .dim { fill: #59636e }
  .axis { stroke: #8c959f; stroke-width: 1 }
  .grid { stroke: #d8dee4; stroke-width: 1 }
  .bound { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 4 3 }
  .beyond { fill: #1f2328; fill-opacity: .04 }
  .honest { fill: #0969da; fill-opacity: .6 }
  .lie { fill: #cf222e; fill-opacity: .6 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .dim { fill: #9198a1 }
    .axis { stroke: #7d8590 }
    .grid { stroke: #30363d }
    .bound { stroke: #e6edf3 }
    .beyond { fill: #e6edf3; fill-opacity: .05 }
    .honest { fill: #58a6ff; fill-opacity: .7 }
    .lie { fill: #ff7b72; fill-opacity: .7 }
  }
"""
Row: TypeAlias = tuple[str, bool, Sequence[float]]


def plot(rows: Sequence[Row]) -> str:
    """Return the SVG of rows: a condition's name, whether it is honest, its calls' scores.

    Scores are parts of the highest honest score of as many tokens: beyond 1 a call is accused.
    Calls that lose next to nothing are counted, not drawn.
    """
    tops, bottom = _tops(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 44}" role="img" '
        f'aria-label="What tokens of honest and dishonest calls lose, call by call">',
        f"<style>{_STYLE}</style>",
        *_frame(bottom),
    ]
    for top, (name, honest, scores) in zip(tops, rows, strict=True):
        y, kind = top + _ROW / 2, "honest" if honest else "lie"
        small = sum(score < _LOWEST for score in scores)
        accused = sum(score > 1 for score in scores)
        parts.append(_text(_LEFT - 52, y + 4, name, "end"))
        parts.append(_text(_LEFT - 10, y + 4, f"{small or '–'}", "end", "dim"))
        parts.append(_text(_WIDTH - 8, y + 4, f"{accused} of {len(scores)}", "end", "dim"))
        for x, shift in _swarm([_x(score) for score in scores if score >= _LOWEST]):
            parts.append(f'<circle class="{kind}" cx="{x}" cy="{y + shift:g}" r="{_RADIUS:g}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _tops(rows: Sequence[Row]) -> tuple[list[float], float]:
    """Return where each row begins, lies apart from honest calls, and where the last one ends."""
    tops: list[float] = []
    at = float(_TOP)
    for number, row in enumerate(rows):
        at += _GAP if number and row[1] != rows[number - 1][1] else 0
        tops.append(at)
        at += _ROW
    return tops, at


def _frame(bottom: float) -> list[str]:
    """Return legend, axis and the bound between honest and accused."""
    bound, end = _x(1), _WIDTH - _RIGHT
    beyond = f'x="{bound}" y="{_TOP - 6}" width="{end - bound:g}" height="{bottom - _TOP + 6:g}"'
    parts = [f'<rect class="beyond" {beyond}/>']
    for place, (kind, meaning) in enumerate((("honest", "an honest call"), ("lie", "a lie"))):
        key = _LEFT + 6 + 120 * place
        parts.append(f'<circle class="{kind}" cx="{key}" cy="14" r="{_RADIUS + 1:g}"/>')
        parts.append(_text(key + 10, 18, meaning, "start"))
    for exponent in range(-2, 3):
        x = _x(10.0**exponent)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{bottom:g}"/>')
        parts.append(_text(x, bottom + 16, f"{10.0**exponent:g}", "middle"))
    title = "score, as a part of the highest honest score"
    line = f'x1="{bound}" x2="{bound}" y1="{_TOP - 22}" y2="{bottom:g}"'
    return [
        *parts,
        _text((_LEFT + end) / 2, bottom + 36, title, "middle"),
        f'<line class="axis" x1="{_LEFT}" x2="{end}" y1="{bottom:g}" y2="{bottom:g}"/>',
        f'<line class="bound" {line}/>',
        _text(bound - 8, _TOP - 14, "let pass", "end"),
        _text(bound + 8, _TOP - 14, "accused", "start"),
        _text(_LEFT - 10, _TOP - 14, f"below {_LOWEST:g}", "end", "dim"),
        _text(_WIDTH - 8, _TOP - 14, "accused", "end", "dim"),
    ]


def _swarm(places: Sequence[float]) -> list[tuple[float, int]]:
    """Return dots in order, each in the lane where it hides the least of those before it."""
    dots: list[tuple[float, int]] = []
    last = dict.fromkeys(_LANES, -math.inf)
    for x in sorted(places):
        free = (lane for lane in _LANES if x - last[lane] >= 2 * _RADIUS)
        lane = next(free, min(_LANES, key=last.__getitem__))
        last[lane] = x
        dots.append((x, lane))
    return dots


def _x(score: float) -> float:
    span = math.log10(_HIGHEST / _LOWEST)
    place = math.log10(min(max(score, _LOWEST), _HIGHEST) / _LOWEST) / span
    return round(_LEFT + place * (_WIDTH - _LEFT - _RIGHT), 1)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def rows_of(measured: Sequence[Measured], fair: Mapping[str, HonestTokens]) -> list[Row]:
    """Return the plot's rows: honest conditions first, lies as receipts that name bfloat16."""
    rows: list[Row] = []
    for m in sorted(measured, key=lambda m: not m.condition.honest):
        claim = m.condition.claim if m.condition.honest else HALF
        parts = [
            fair[claim].score(call.tolist(), CLIP) / fair[claim].bound(len(call), ONE_IN)
            for call in m.calls
        ]
        rows.append((m.condition.name, m.condition.honest, parts))
    return rows
