"""Fixtures shared by the tests of the IPFS parts."""

from tests.peers.js_ipfs import js_ipfs
from tests.registry.ipfs.hostile_server import hostile

__all__ = ["hostile", "js_ipfs"]
