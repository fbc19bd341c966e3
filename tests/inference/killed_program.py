"""A program that tells numbers, and is killed while it does."""

from __future__ import annotations

import signal
import subprocess
import sys


def told_until_killed(program: str, lines: int) -> set[int]:
    """Run a Python program, kill it (SIGKILL) after so many lines; return every number it told."""
    told: set[int] = set()
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.add(int(line))
            if len(told) >= lines:
                process.send_signal(signal.SIGKILL)
                break
        # The last piece may be half a number.
        told |= {int(line) for line in process.stdout.read().split()[:-1]}
    return told
