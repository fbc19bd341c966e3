"""Records, manifests and verification of models."""

from __future__ import annotations

import contextlib
import sys

# py_ecc, which eth-account and web3 import, raises Python's recursion limit to 100,000. That is
# past what the stack holds: some kilobytes of nested brackets would then crash the JSON parser
# and the whole process with it, from a manifest, an RPC answer or a request. So it is imported
# here, before anybody else does, and the limit is put back to where RecursionError still comes.
_DEFAULT_LIMIT = 1_000
_SAFE_LIMIT = 10_000
_limit = sys.getrecursionlimit()
with contextlib.suppress(ImportError):
    import py_ecc  # noqa: F401  # for its effect, which is undone below
sys.setrecursionlimit(_limit if _limit <= _SAFE_LIMIT else _DEFAULT_LIMIT)
