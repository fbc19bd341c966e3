"""The engine's own kernels for a CPU, compiled from Python when they are first used.

Every number is computed by a fixed sequence of operations, in an order that
depends on nothing but the shapes of the model: not on how many rows are computed together, on how
many threads share the work, or on how wide the processor's vectors are. So what a call computes is
the same bit for bit whatever else is computed beside it, on every processor with fused
multiply-add. Sums are single precision. Weights in bfloat16 are widened, which is exact, and so is
all else single precision; or, where the processor has a unit for it (see `unit`), what goes into
products is rounded to bfloat16, which is another result with another name.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numba


def _cache_for_these_sources() -> None:
    """Keep compiled kernels apart by what all of them say.

    numba looks only at the file a kernel stands in, and would run what was compiled from an older
    version of one that it calls.
    """
    here = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))
    cache = here / "__pycache__" / hashlib.sha256(sources).hexdigest()[:16]
    # Where the package cannot be written, numba takes a folder of the user's.
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            numba.config.CACHE_DIR = str(cache)


_cache_for_these_sources()
