"""The report as one page that needs nothing else: verdict, checks, figures, money by channel."""

from __future__ import annotations

import time
from html import escape
from typing import Final

from inference.audit.report import BUNDLE, ChannelMoney, CheckResult, Report

# Bars beyond these say no more, and a page of a million is none.
_MOST_BARS: Final = 40
_BAR_WIDTH: Final = 520
_ROW_HEIGHT: Final = 20
_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#6a737d;--line:#d8dee4;--good:#1a7f37;
--bad:#cf222e;--claimed:#0969da;--open:#9ec5fe;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#8b949e;--line:#30363d;--good:#3fb950;
--bad:#f85149;--claimed:#58a6ff;--open:#1f4f8f;--paper:#0d1117}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
.good{color:var(--good)}.bad{color:var(--bad)}.dim{color:var(--dim)}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid var(--line);padding:.35rem .5rem;
text-align:left;vertical-align:top}td.mark{width:1.5rem;font-weight:bold}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.figures{display:flex;flex-wrap:wrap;gap:.75rem}.figures div{border:1px solid var(--line);
border-radius:6px;padding:.5rem .9rem}.figures b{display:block;font-size:1.25rem}
svg text{fill:var(--ink);font:12px ui-monospace,monospace}
"""


def page(report: Report, *, now: float | None = None) -> str:
    """Return the page; `now` in unix seconds."""
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    verdict, style = (
        ("Every check that ran is good", "good") if report.ok else (_bad(report), "bad")
    )
    source = ""
    if report.source == BUNDLE:
        source = (
            "<p class=bad>The chain was not asked: its part is taken from the bundle, on the word "
            "of whoever saved it.</p>"
        )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>Audit of {escape(report.origin)}</title><style>{_STYLE}</style>"
        f"<h1>Audit of <code>{escape(report.origin)}</code></h1>"
        f"<p class={style} style='font-size:1.3rem'>{escape(verdict)}</p>{source}"
        f"<p class=dim>Node <code>{escape(report.node)}</code> · {report.size} entries · root "
        f"<code>{escape(report.root or 'none')}</code> · {at}</p>"
        f"<h2>Checks</h2><table>{''.join(map(_row, report.checks))}</table>"
        f"<h2>Figures</h2>{_figures(report)}<h2>Money by channel</h2>{_chart(report)}"
    )


def _bad(report: Report) -> str:
    if not report.failed:
        return "There is no checkpoint to rest on"
    numbers = ", ".join(str(check.number) for check in report.failed)
    return f"Something is false: check {numbers}"


def _row(check: CheckResult) -> str:
    if not check.ran:
        mark, style = "·", "dim"
    else:
        mark, style = ("✓", "good") if check.ok else ("✗", "bad")
    more = "".join(f"<br>{escape(one.detail)}" for one in check.more)
    return (
        f"<tr class={style if style != 'good' else ''}><td class='mark {style}'>{mark}<td>"
        f"{check.number}. {escape(check.name)}<td>{escape(check.detail)}{more}"
    )


def _figures(report: Report) -> str:
    named = {
        "entries": "entries read",
        "before": "audited before",
        "receipts": "receipts",
        "charged": "charged",
        "claimed": "claimed on chain",
        "unclaimed": "unclaimed",
        "channels": "channels",
        "exact": "exact payments",
        "models": "models",
        "anchors": "anchored heads",
    }
    values = report.figures.to_json()
    boxes = (f"<div><b>{values[name]}</b>{escape(words)}</div>" for name, words in named.items())
    return f"<div class=figures>{''.join(boxes)}</div><p class=dim>Amounts in atomic units.</p>"


def _chart(report: Report) -> str:
    if not report.channels:
        return "<p class=dim>No channel was compared.</p>"
    ranked = sorted(report.channels, key=lambda one: one.charged, reverse=True)
    shown, rest = ranked[:_MOST_BARS], ranked[_MOST_BARS:]
    most = max(one.charged for one in shown) or 1
    bars = "".join(_bar(row, one, most) for row, one in enumerate(shown))
    height = _ROW_HEIGHT * len(shown) + 4
    more = ""
    if rest:
        more = f"<p class=dim>and {len(rest)} more, {sum(one.charged for one in rest)} charged</p>"
    return (
        "<p class=dim>What each channel's calls cost: <span style='color:var(--claimed)'>■</span> "
        "claimed on chain, <span style='color:var(--open)'>■</span> unclaimed</p>"
        f"<svg width=100% viewBox='0 0 900 {height}' role=img "
        f"aria-label='charges by channel'>{bars}</svg>{more}"
    )


def _bar(row: int, one: ChannelMoney, most: int) -> str:
    top = row * _ROW_HEIGHT
    whole, claimed = (_BAR_WIDTH * part // most for part in (one.charged, one.claimed))
    name = f"0x{one.channel.hex()}"
    return (
        f"<g><title>{name}: {one.charged} charged, {one.claimed} claimed</title>"
        f"<text x=0 y={top + 14}>{name[:12]}…</text>"
        f"<rect x=130 y={top + 3} width={max(whole, 1)} height=14 fill='var(--open)'/>"
        f"<rect x=130 y={top + 3} width={claimed} height=14 fill='var(--claimed)'/>"
        f"<text x={140 + max(whole, 1)} y={top + 14}>{one.charged}</text></g>"
    )
