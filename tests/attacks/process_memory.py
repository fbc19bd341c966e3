"""What this process holds and took: what a refusal must give back, and must not take."""

from __future__ import annotations

import gc
import re
from pathlib import Path


def held() -> tuple[int, int, int]:
    """Return what this process holds of models: sealed copies, mappings of them, open weights."""
    gc.collect()
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    sealed = sum("/memfd:weightproof" in link for link in links)
    weights = sum(".safetensors" in link for link in links)
    return sealed, Path("/proc/self/maps").read_text().count("/memfd:weightproof"), weights


def reset_peak() -> float:
    """Forget the peak of this process's memory; return what it takes now, in MB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mb("VmRSS")


def peak_mb() -> float:
    """Return the most that it has taken since, in MB."""
    return _status_mb("VmHWM")


def _status_mb(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
