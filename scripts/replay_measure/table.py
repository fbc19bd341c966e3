"""The table of the README."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from inference.audit.margin_test import HALF, SINGLE


def table(told: Mapping[str, Any]) -> str:
    """Return a summary's conditions as Markdown: honest ones first."""
    return "\n".join(
        (
            "| how calls were computed | calls | the model's own answer | accused, says fp32 | "
            "accused, says bf16 | AUC, says bf16 |",
            "|---|---|---|---|---|---|",
            *_rows(told),
        )
    )


def _rows(told: Mapping[str, Any]) -> Iterator[str]:
    for found in sorted(told["conditions"], key=lambda c: not c["honest"]):
        honest, accused = found["honest"], found["accused"]
        # An honest node of bfloat16 does not say that it computes in single precision.
        rough = honest and found["arithmetic"] == HALF
        cells = (
            f"honest: {found['name']}" if honest else found["name"],
            found["calls"],
            found["own_answers"],
            "" if rough else accused[SINGLE],
            accused[HALF],
            "" if honest else f"{found['auc'][HALF]['all']:.3f}",
        )
        yield f"| {' | '.join(str(cell) for cell in cells)} |"
