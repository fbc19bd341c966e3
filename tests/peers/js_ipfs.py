"""A real js-ipfs node, started for the tests: `ipfs-core` with its HTTP RPC on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parent / "js-ipfs"
_NODE = Path(sys.executable).parent / "node"
_STOP_S = 10


@dataclass(frozen=True)
class JsIpfs:
    """A running node: the multiaddr of its RPC and the folder of its repository."""

    rpc: str
    repo: Path

    def block_file(self, digest_text: str) -> Path:
        """The file in which the node keeps a block; named by its multihash in base 32."""
        (path,) = (self.repo / "blocks").rglob(f"{digest_text}.data")
        return path


@contextmanager
def running_js_ipfs(repo: Path) -> Iterator[JsIpfs]:
    """Start a node on free ports and stop it again; it also stops when this process dies."""
    if not (_FOLDER / "node_modules" / ".ready").exists():
        pytest.fail("js-ipfs is not installed; run `make setup`")
    with subprocess.Popen(
        [_NODE, "server.mjs", str(repo)],
        cwd=_FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"js-ipfs ended with {process.wait(_STOP_S)} before it was ready")
            yield JsIpfs(json.loads(line)["rpc"], repo)
        finally:
            # Its repository is thrown away, so it need not close in good order.
            process.kill()


@pytest.fixture(scope="session")
def js_ipfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JsIpfs]:
    """One node for the whole session."""
    with running_js_ipfs(tmp_path_factory.mktemp("js-ipfs") / "repo") as node:
        yield node
