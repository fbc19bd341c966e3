"""Tiles: one name each, bytes that the log's root follows from, nothing beyond the log."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection

from inference.api import tiles as routes
from inference.api.problems import handle
from inference.audit import merkle
from inference.audit.bodies import IncidentBody, entry_of
from inference.audit.checkpoint import checkpoint_domain, sign
from inference.audit.log import AuditLog
from inference.audit.reader import BadAnswerError
from inference.audit.tile_reader import TileReader, folder_files, http_files
from inference.audit.tiled_log import TiledLog
from inference.audit.tiles import (
    ENTRIES,
    BadTileError,
    NoTileError,
    Tile,
    is_within,
    join_entries,
    split_entries,
    split_hashes,
    tiles_between,
)
from inference.database import Database
from inference.errors import NodeError
from inference.log_export import ExportError, count, export
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE

LOG = AuditLog("example.org/log")
DOMAIN = checkpoint_domain(CHAIN_ID, ANCHOR)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address) as opened:
        yield opened


def fill(database: Database, size: int) -> list[bytes]:
    """Append up to `size`; return the bytes of all entries."""

    def many(tx: Connection) -> None:
        for seq in range(LOG.size(tx), size):
            LOG.append(tx, entry_of(seq, IncidentBody("test", "", f"entry {seq} " * (seq % 7), 0)))

    database.write_now(many)
    pages = range(0, size, 1000)
    return [e for p in pages for e in database.read(lambda tx, p=p: LOG.entry_bytes(tx, p, size))]


def note(database: Database) -> str:
    return sign(database.read(LOG.checkpoint), NODE, DOMAIN).note


def client(database: Database) -> TestClient:
    app = FastAPI()
    app.add_exception_handler(NodeError, handle)
    app.include_router(routes.router(database, LOG, lambda: note(database)))
    return TestClient(app, base_url="http://node.test/log")


def parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: list[bytes]) -> bytes:
    """RFC 6962's MTH over hashes, word for word."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return parent(root_of(hashes[:split]), root_of(hashes[split:]))


def path_of(level: str, index: int, width: int) -> str:
    """The name of a tile as C2SP tlog-tiles writes it."""
    text = str(index)
    text = "0" * (-len(text) % 3) + text
    groups = [text[i : i + 3] for i in range(0, len(text), 3)]
    name = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
    return f"/tile/{level}/{name}" + (f".p/{width}" if width < 256 else "")


def tree_of(get: TestClient, size: int) -> bytes:
    """The root of a log of `size`, from the tiles of every level and from the bundles alone.

    Each level must follow from the one below it, and the lowest from the entries.
    """
    below: list[bytes] = []
    for n in range(-(-size // 256)):
        width = min(256, size - 256 * n)
        bundle = get.get(path_of("entries", n, width)).content
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            below.append(hashlib.sha256(b"\x00" + bundle[2 : 2 + length]).digest())
            bundle = bundle[2 + length :]
    assert len(below) == size
    leaves, level = below, 0
    while below:
        for n in range(-(-len(below) // 256)):
            tile = below[256 * n : 256 * (n + 1)]
            answer = get.get(path_of(str(level), n, len(tile)))
            assert answer.content == b"".join(tile), (level, n)
        full = range(len(below) // 256)
        below = [root_of(below[256 * n : 256 * (n + 1)]) for n in full]
        level += 1
    return root_of(leaves)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/1",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/x001",
        "tile/0/001/002",
        "tile/0/x001x002",
        "tile/00/000",
        "tile/-1/000",
        "tile/64/000",
        "tile/data/000",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/05",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/1/2",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "/tile/0/000",
    ],
)
def test_another_name_than_a_tiles_own_is_refused(path: str) -> None:
    with pytest.raises(NoTileError):
        Tile.parse(path)


def test_bytes_that_are_not_the_tile_are_refused() -> None:
    tile = Tile(0, 0, 2)
    for data in (b"", bytes(63), bytes(65), bytes(96)):
        with pytest.raises(BadTileError):
            split_hashes(tile, data)
    good = join_entries([b"a", b""])
    for data in (b"", good[:-1], good + b"\x00", good + b"\x00\x00", b"\x00\x05abc"):
        with pytest.raises(BadTileError):
            split_entries(Tile(ENTRIES, 0, 2), data)
    with pytest.raises(NoTileError, match="fits no bundle"):
        join_entries([bytes(65_536)])


def test_tiles_beyond_the_log_are_not_there_and_nobody_is_told_to_remember_it(
    database: Database,
) -> None:
    fill(database, 300)
    with client(database) as get:
        for path in ("/tile/0/000", "/tile/0/001.p/44", "/tile/1/000.p/1", "/tile/entries/000"):
            assert get.get(path).status_code == 200
        for path in (
            "/tile/0/001",
            "/tile/0/001.p/45",
            "/tile/0/002.p/1",
            "/tile/1/000",
            "/tile/1/000.p/2",
            "/tile/2/000.p/1",
            "/tile/63/000.p/1",
            "/tile/entries/001.p/45",
            "/tile/entries/x999/x999/x999/x999/x999/999",
            "/tile/0/1",
        ):
            answer = get.get(path)
            assert answer.status_code == 404, path
            assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
def test_the_signed_root_follows_from_the_tiles_alone(database: Database, size: int) -> None:
    fill(database, size)
    with client(database) as get:
        lines = get.get("/checkpoint").text.split("\n")
        assert lines[1] == str(size)
        assert tree_of(get, size) == base64.b64decode(lines[2])


def test_a_log_with_a_third_level_has_it(tmp_path: Path) -> None:
    # 65 536 entries and a few: the lowest size at which level 2 is not empty.
    url = f"sqlite:///{tmp_path}/node.db"
    with Database(url, chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address) as database:
        size = 65_536 + 300
        fill(database, size)
        with client(database) as get:
            lines = get.get("/checkpoint").text.split("\n")
            assert tree_of(get, size) == base64.b64decode(lines[2])
            assert len(get.get("/tile/2/000.p/1").content) == 32
            assert get.get("/tile/1/001.p/1").status_code == 200
            assert get.get("/tile/2/000.p/2").status_code == 404


def test_tiles_may_be_kept_for_ever_and_checkpoints_not(database: Database) -> None:
    fill(database, 300)
    with client(database) as get:
        for path in ("/tile/0/000", "/tile/0/001.p/44", "/tile/entries/001.p/44"):
            answer = get.get(path)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert "immutable" in answer.headers["cache-control"]
        answer = get.get("/checkpoint")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        packed = get.get("/tile/entries/000", headers={"accept-encoding": "gzip"})
        plain = get.get("/tile/entries/000", headers={"accept-encoding": "identity"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert packed.content == plain.content


def test_a_tile_never_changes_as_the_log_grows(database: Database) -> None:
    seen: dict[str, bytes] = {}
    tiled = TiledLog(LOG)
    before = 0
    for size in (1, 40, 255, 256, 300, 513):
        fill(database, size)
        for tile in tiles_between(before, size):
            assert is_within(tile, size)
            assert not is_within(tile, before)
            seen[tile.path] = database.read(lambda tx, tile=tile: tiled.read(tx, tile))
        before = size
    for path, data in seen.items():
        assert Tile.parse(path).path == path
        assert database.read(lambda tx, path=path: tiled.read(tx, Tile.parse(path))) == data


def test_a_large_index_is_written_in_groups_of_three() -> None:
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(ENTRIES, 1_000, 7).path == "tile/entries/x001/000.p/7"
    assert Tile.parse("tile/2/x001/x234/067.p/255") == Tile(2, 1_234_067, 255)


def test_the_example_of_the_specification() -> None:
    tiles = list(tiles_between(0, 70_000))
    at = {level: [t for t in tiles if t.level == level] for level in (ENTRIES, 0, 1, 2)}
    assert [len(at[level]) for level in at] == [274, 274, 2, 1]
    assert [at[0][-1].width, at[1][-1].width, at[2][-1].width] == [112, 17, 1]
    assert at[ENTRIES][-1].width == 112


def test_a_folder_of_another_log_or_another_past_is_left_alone(
    database: Database, tmp_path: Path
) -> None:
    fill(database, 300)
    folder = tmp_path / "out"
    export(database, LOG, note(database), folder)
    kept = (folder / "checkpoint").read_text()
    fill(database, 310)
    lines = kept.split("\n")
    other = "\n".join([lines[0], lines[1], base64.b64encode(bytes(32)).decode(), *lines[3:]])
    for text in (other, kept.replace("\n300\n", "\n999\n"), "rubbish", kept.replace("org", "com")):
        (folder / "checkpoint").write_text(text)
        with pytest.raises(ExportError):
            export(database, LOG, note(database), folder)
        assert (folder / "checkpoint").read_text() == text


def test_an_export_is_what_the_node_serves_and_later_writes_only_what_is_new(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    fill(database, 300)
    first = export(database, LOG, note(database), folder)
    assert (first.before, first.size, first.tiles) == (0, 300, 5)
    fill(database, 520)
    assert count(folder, note(database)) == 5
    second = export(database, LOG, note(database), folder)
    assert (second.before, second.size, second.tiles) == (300, 520, 5)
    assert export(database, LOG, note(database), folder).tiles == 0
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {
        "checkpoint",
        *(f"tile/{level}/{n}" for level in ("0", "entries") for n in ("000", "001", "002.p/8")),
        "tile/1/000.p/1",
        "tile/1/000.p/2",
    }
    with client(database) as get:
        for name in files:
            assert (folder / name).read_bytes() == get.get(f"/{name}").content
            assert (folder / name).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("way", ["folder", "http"])
def test_entries_and_proofs_are_read_from_tiles(
    database: Database, tmp_path: Path, way: str
) -> None:
    entries = fill(database, 777)
    export(database, LOG, note(database), tmp_path / "out")
    with client(database) as get:
        files = folder_files(tmp_path / "out") if way == "folder" else http_files(get)
        reader = TileReader(files, get)
        assert reader.note() == note(database)
        assert list(reader.entries(0, 777)) == entries
        assert list(reader.entries(250, 777)) == entries[250:]
        root = database.read(lambda tx: LOG.root(tx, 777))
        for seq in (0, 255, 256, 511, 512, 776):
            proof = reader.inclusion_proof(seq, 777)
            assert proof == database.read(lambda tx, s=seq: LOG.inclusion_proof(tx, s, 777))
            merkle.verify_inclusion(merkle.leaf_hash(entries[seq]), seq, 777, proof, root)
        for old in (1, 255, 256, 300, 512, 768, 777):
            proof = reader.consistency_proof(old, 777)
            assert proof == database.read(lambda tx, o=old: LOG.consistency_proof(tx, o, 777))


def test_a_reader_of_tiles_takes_the_full_tile_where_a_partial_one_is_gone(
    database: Database, tmp_path: Path
) -> None:
    entries = fill(database, 300)
    fill(database, 600)
    export(database, LOG, note(database), tmp_path)
    with client(database) as get:
        reader = TileReader(folder_files(tmp_path), get)
        assert list(reader.entries(0, 300)) == entries
        proof = reader.consistency_proof(100, 300)
        assert proof == database.read(lambda tx: LOG.consistency_proof(tx, 100, 300))


def test_missing_short_and_endless_tiles_are_told_as_bad_answers(
    database: Database, tmp_path: Path
) -> None:
    fill(database, 300)
    export(database, LOG, note(database), tmp_path)
    with client(database) as get:
        (tmp_path / "tile/entries/000").write_bytes(bytes(17_000_000))
        with pytest.raises(BadAnswerError, match="too large"):
            list(TileReader(folder_files(tmp_path), get).entries(0, 300))
        (tmp_path / "tile/0/000").write_bytes(bytes(31))
        with pytest.raises(BadAnswerError, match="31 bytes"):
            TileReader(folder_files(tmp_path), get).inclusion_proof(0, 300)
        (tmp_path / "tile/0/000").unlink()
        with pytest.raises(BadAnswerError, match="no such tile"):
            TileReader(folder_files(tmp_path), get).inclusion_proof(0, 300)
        (tmp_path / "checkpoint").unlink()
        with pytest.raises(BadAnswerError, match="no checkpoint"):
            TileReader(folder_files(tmp_path), get).note()
