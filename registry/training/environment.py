"""Where a training takes place: code, packages, machine. Step 2 of registering.

Nothing here names a host, a user or a path: a manifest is public for ever.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from registry.hashing.parallel import processors
from registry.manifest_parts import Environment

UNKNOWN: Final = "unknown"
NONE: Final = "none"
# Asking git in a healthy repository takes milliseconds; a network mount may hang.
_GIT_TIMEOUT_S: Final = 10


def capture(*, seed: int | None, code_folder: Path | None = None) -> Environment:
    """Return the environment of this process.

    `code_folder` is where the training code is (default: the working directory); its commit is
    noted if it is in a git repository. Torch is asked for the device and threads if the caller
    has imported it; it is not imported here.
    """
    return Environment(
        code=_code(code_folder or Path.cwd()),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        hardware=_hardware(),
        threads=_threads(),
        seed=NONE if seed is None else str(seed),
        packages=_packages(),
    )


def _code(folder: Path) -> str:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return UNKNOWN
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"git:{commit}" + ("" if changes == "" else "+changes")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _packages() -> dict[str, str]:
    found = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower()] = distribution.version or UNKNOWN
    return dict(sorted(found.items()))


def _hardware() -> str:
    parts = [f"{processors()} x {_processor_name()}"]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts += [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
    return " + ".join(parts)


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip() or UNKNOWN
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or UNKNOWN


def _threads() -> str:
    torch = sys.modules.get("torch")
    return NONE if torch is None else str(torch.get_num_threads())
