"""The log: appends with group commit, proofs and tiles of a large tree, an export.

- `appends` are of a signed receipt each, in transactions that are on the disk before any of their
  members is told; 256 callers with one append under way each.
- `proofs` and `tiles` are read from a tree of a million leaves on the disk, each in a transaction
  of its own, at places drawn by a fixed seed.
- `export` writes the appended receipts as files, each on the disk before the next is begun.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection

from inference.audit import merkle
from inference.audit.checkpoint import checkpoint_domain, sign
from inference.audit.entry import RECEIPT, Entry, parse_entry
from inference.audit.log import AuditLog
from inference.audit.tiled_log import TiledLog
from inference.audit.tiles import ENTRIES, Tile
from inference.database import Database
from inference.log_export import export
from inference.prepared import drive
from registry.signing.signer import Signer

Progress: TypeAlias = Callable[[str, int, int], None]

_CALLERS: Final = 256
_APPENDS: Final = 20_480
_LEAVES: Final = 1_000_000
_PROOFS: Final = 2_000
_RUNS: Final = 5
_GOALS: Final = {"appends_per_s": 5_000, "inclusion_proof_ms": 1.0}
_LOG: Final = AuditLog("bench.example/log")
_NODE: Final = Signer(b"\x11" * 32)
_ANCHOR: Final = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
_VECTOR: Final = Path(__file__).parents[2] / "tests/vectors/receipts/v1/ok_channel.json"


def measure(*, quick: bool, progress: Progress) -> dict[str, Any]:
    """Return the figures; times in milliseconds."""
    scale = 10 if quick else 1
    with TemporaryDirectory() as folder:
        with _opened(Path(folder) / "appends.db") as database:
            appends = _appends(database, _APPENDS // scale, progress)
            bundle = _times(database, [_tile(ENTRIES, n) for n in (0, 1, 2)] * 20)
            exported = _export(database, Path(folder) / "out", progress)
        with _opened(Path(folder) / "tree.db") as database:
            leaves = _LEAVES // scale
            _fill(database, leaves, progress)
            proofs = _proofs(database, leaves, _PROOFS // scale, progress)
            places = random.Random(7).sample(range(leaves // 256), 200)
            hashes = _times(database, [_tile(0, n) for n in places])
    inclusion = proofs["inclusion"]["p50_ms"]
    return {
        "appends": appends,
        "leaves": leaves,
        "proofs": proofs,
        "tiles": {"hashes": hashes, "entries": bundle},
        "export": exported,
        "goals": {
            "appends_per_s": {
                "goal": f">= {_GOALS['appends_per_s']}",
                "is": appends["per_s"],
            },
            "inclusion_proof_ms": {"goal": f"< {_GOALS['inclusion_proof_ms']}", "is": inclusion},
        },
    }


def _opened(path: Path) -> Database:
    return Database(f"sqlite:///{path}", chain_id=31337, channels=_ANCHOR, node=_NODE.address)


def _appends(database: Database, count: int, progress: Progress) -> dict[str, Any]:
    body = _receipt()

    def append(tx: Connection) -> None:
        _LOG.append(tx, Entry(_LOG.size(tx), RECEIPT, body))

    async def caller(appends: int) -> None:
        for _ in range(appends):
            await database.write(append)

    async def all_callers(appends: int) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(caller(appends) for _ in range(_CALLERS)))
        return _CALLERS * appends / (time.perf_counter() - began)

    each = max(1, count // _CALLERS)
    asyncio.run(all_callers(max(1, each // 10)))  # caches settle
    rates = []
    for run in range(_RUNS):
        progress("appends", run, _RUNS)
        rates.append(asyncio.run(all_callers(each)))
    return {
        "per_s": round(statistics.median(rates)),
        "least_per_s": round(min(rates)),
        "entry_bytes": len(database.read(lambda tx: _LOG.entry_bytes(tx, 0, 1))[0]),
        "callers": _CALLERS,
        "runs": _RUNS,
    }


def _receipt() -> Any:
    """Return a receipt's body as it stands in the log, signature and all."""
    entry = json.loads(_VECTOR.read_text())["entry"]
    return parse_entry(entry.encode()).body


def _fill(database: Database, count: int, progress: Progress) -> None:
    """Write a tree by its rows: what so many appends would have left, in seconds."""

    def write(tx: Connection) -> None:
        level = [merkle.leaf_hash(b"%d" % i) for i in range(count)]
        entries = ((i, leaf, b"%d" % i) for i, leaf in enumerate(level))
        _insert(tx, "INSERT INTO log_entries (seq, leaf_hash, body) VALUES (?, ?, ?)", entries)
        height = 0
        while len(level) > 1:
            progress("tree", height, count.bit_length())
            pairs = zip(level[::2], level[1::2], strict=False)
            level, height = [merkle.node_hash(*pair) for pair in pairs], height + 1
            rows = ((height, i, value) for i, value in enumerate(level))
            _insert(tx, "INSERT INTO log_nodes (level, position, hash) VALUES (?, ?, ?)", rows)

    database.write_now(write)


def _insert(tx: Connection, text: str, rows: Iterable[tuple[Any, ...]]) -> None:
    for row in rows:
        drive(tx, text, row)


def _proofs(database: Database, size: int, count: int, progress: Progress) -> dict[str, Any]:
    draw = random.Random(7)
    root = database.read(lambda tx: _LOG.root(tx, size))
    kinds: dict[str, Callable[[Connection], object]] = {
        "inclusion": lambda tx: _LOG.inclusion_proof(tx, draw.randrange(size), size),
        "consistency": lambda tx: _LOG.consistency_proof(tx, draw.randrange(1, size), size),
        "head": _LOG.checkpoint,
    }
    found = {}
    for done, (name, ask) in enumerate(kinds.items()):
        progress(f"proofs: {name}", done, len(kinds))
        found[name] = _times(database, [ask] * count)
    # What was timed is right.
    proof = database.read(lambda tx: _LOG.inclusion_proof(tx, size // 3, size))
    leaf = merkle.leaf_hash(b"%d" % (size // 3))
    merkle.verify_inclusion(leaf, size // 3, size, proof, root)
    return found


def _export(database: Database, folder: Path, progress: Progress) -> dict[str, Any]:
    progress("export", 0, 1)
    head = database.read(_LOG.checkpoint)
    note = sign(head, _NODE, checkpoint_domain(31337, _ANCHOR)).note
    began = time.perf_counter()
    done = export(database, _LOG, note, folder)
    took = time.perf_counter() - began
    return {"entries_per_s": round(done.size / took), "tiles_per_s": round(done.tiles / took)}


def _tile(level: int, index: int) -> Callable[[Connection], object]:
    return lambda tx: TiledLog(_LOG).read(tx, Tile(level, index))


def _times(database: Database, asks: list[Callable[[Connection], Any]]) -> dict[str, float]:
    """Return the median and the 99th percentile of reading each."""
    times = []
    for ask in asks:
        began = time.perf_counter()
        database.read(ask)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return {
        "p50_ms": round(statistics.median(times), 3),
        "p99_ms": round(times[int(len(times) * 0.99)], 3),
    }
