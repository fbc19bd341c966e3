"""Where Anvil is: npm's platform package of this project, or the PATH."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from registry.errors import ConfigError

_SYSTEMS: Final = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}
_MACHINES: Final = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def find(starts: Sequence[Path] | None = None, *, search_path: str | None = None) -> Path:
    """Return the Anvil executable. Raises `ConfigError` that says how to get it.

    npm's package is looked for in `starts` and above (default: this file and the working
    directory), then the program in `search_path` (default: the PATH). The launcher that
    `npx anvil` runs is not used: it leaves orphans when its parent is killed.
    """
    system = _SYSTEMS.get(platform.system(), "")
    machine = _MACHINES.get(platform.machine(), "")
    name = "anvil.exe" if system == "win32" else "anvil"
    package = Path("node_modules", "@foundry-rs", f"anvil-{system}-{machine}", "bin", name)
    for start in starts if starts is not None else (Path(__file__).resolve(), Path.cwd()):
        for folder in (start, *start.parents):
            if (folder / package).is_file():
                return folder / package
    on_path = shutil.which(name, path=search_path)
    if on_path is not None:
        return Path(on_path)
    raise ConfigError(
        "Anvil, the devnet's program, is not installed",
        hint="run `npm ci` in the project's folder, or install Foundry",
    )
