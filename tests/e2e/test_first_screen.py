"""The README's first screen is what `make demo` prints."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# What differs between two honest runs: digits, ids, CIDs, addresses.
VARIABLE = re.compile(r"0x[0-9a-f…]+|bafk\w+|bafy\w+|[\d.,]+")


def shape(line: str) -> str:
    return VARIABLE.sub("#", line).strip()


def test_the_first_screen_shows_what_make_demo_prints() -> None:
    (shown,) = re.findall(r"```console\n\$ make demo\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        ["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = {shape(line) for line in done.stdout.splitlines()}
    steps = [line for line in shown.splitlines() if re.match(r"( \d|1\d|   ✓) ", line)]
    assert len(steps) == 11 + 8
    for line in steps:
        assert shape(line) in printed, f"the demo does not print: {line}"
    assert "every check passed" in done.stdout
    assert "a revoked model" in done.stdout
