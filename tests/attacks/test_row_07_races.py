"""Row 7: a file that is replaced between being hashed and being loaded.

The attacker owns the folder. He acts at a chosen moment (a hook where progress is told) or all the
time (a thread). Whatever he does, what computes is what was registered, or nothing does.
"""

from __future__ import annotations

import mmap
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.loader import LoadedModel, load
from inference.operator_client import OperatorClient
from registry.errors import WeightproofError
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.cid import RAW, Cid, Codec
from registry.verify import VerifiedModel, verify_model
from tests.attacks.hall import Case, Hall, held
from tests.attacks.registered_victim import flip, folder_of
from tests.attacks.victim import FILES, FIRST_SHARD, README, SECOND_SHARD

pytestmark = pytest.mark.timeout(120)
Deed = Callable[[Path], object]


@pytest.fixture(scope="module")
def registered(victim: Case) -> dict[str, torch.Tensor]:
    """The weights as they were registered, read by somebody else's library."""
    folder = folder_of(victim)
    return {**load_file(folder / FIRST_SHARD), **load_file(folder / SECOND_SHARD)}


def is_as_registered(loaded: LoadedModel, registered: dict[str, torch.Tensor]) -> bool:
    found = loaded.module.state_dict()
    return all(found[name].equal(tensor) for name, tensor in registered.items())


def once(deed: Callable[[], object]) -> Callable[[int], None]:
    """Return a hook that acts at its first call only."""
    waiting = [deed]

    def hook(_bytes: int) -> None:
        if waiting:
            waiting.pop()()

    return hook


def verify(hall: Hall, case: Case, hook: Callable[[int], None]) -> VerifiedModel:
    return hall.workspace.verify(case.id, folder=case.folder, progress=hook)


# What attackers do to a file


def rename_over(path: Path) -> None:
    evil = path.with_name("evil")
    evil.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    evil.replace(path)


def write_in_place(path: Path) -> None:
    flip(path, -1)


def rewrite_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"evil" * (path.stat().st_size // 4))


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def remove(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    copy = path.parent.parent / f"copy of {path.name}"
    shutil.copy(path, copy)
    path.unlink()
    path.symlink_to(copy)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


# Replaced between listing and reading: refused by name


@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        (rename_over, "has the CID"),
        (write_in_place, "has the CID"),
        (rewrite_in_place, "has the CID"),
        (cut_off, "has .* bytes, not"),
        (empty, "has 0 bytes"),
        (append, "has more than"),
        (remove, "is missing"),
        (link, "is a symbolic link"),
        (fifo, "is a FIFO"),
        (folder, "is a folder"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_file_replaced_after_it_was_listed_is_refused(
    hall: Hall, spoilt: Case, name: str, deed: Deed, rule: str
) -> None:
    """The first file is being read when another one, listed as good, is replaced."""
    before = held()
    with pytest.raises(WeightproofError, match=f"{name}: {rule}"):
        verify(hall, spoilt, once(lambda: deed(folder_of(spoilt) / name)))
    assert held() == before


@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        (rename_over, "its .*header"),
        (rewrite_in_place, "its .*header"),
        (cut_off, "has .* bytes"),
        (empty, "has 0 bytes"),
        (append, "has .* bytes"),
        (remove, "is missing"),
        (link, "is a symbolic link"),
        (fifo, "is a FIFO"),
        (folder, "is a folder"),
    ],
)
def test_a_shard_replaced_after_it_was_listed_is_refused(
    hall: Hall, spoilt: Case, deed: Deed, rule: str
) -> None:
    before = held()
    with pytest.raises(WeightproofError, match=f"{SECOND_SHARD}: {rule}"):
        verify(hall, spoilt, once(lambda: deed(folder_of(spoilt) / SECOND_SHARD)))
    assert held() == before


def test_a_file_that_grows_while_it_is_read_is_refused(hall: Hall, spoilt: Case) -> None:
    path = folder_of(spoilt) / README

    def grow(_bytes: int) -> None:
        with path.open("ab") as file:
            file.write(bytes(1 << 20))

    with pytest.raises(WeightproofError, match=f"{README}: has more than"):
        verify(hall, spoilt, grow)
    # Read until the limit was passed, not until the attacker got tired.
    assert path.stat().st_size < 10 << 20


def test_a_folder_exchanged_for_another_while_it_is_read_is_refused(
    hall: Hall, spoilt: Case, tmp_path: Path
) -> None:
    here = folder_of(spoilt)
    evil = Path(shutil.copytree(here, tmp_path / "evil"))
    for name in FILES:
        rename_over(evil / name)

    def exchange() -> None:
        here.rename(tmp_path / "was good")
        here.symlink_to(evil)

    with pytest.raises(WeightproofError, match=r"chat_template\.jinja: has the CID"):
        verify(hall, spoilt, once(exchange))


# Replaced after it was read: nothing changes


@pytest.mark.parametrize("deed", [rename_over, write_in_place, rewrite_in_place, empty, remove])
def test_a_file_replaced_after_it_was_hashed_is_loaded_as_it_was_hashed(
    hall: Hall, victim: Case, spoilt: Case, deed: Deed
) -> None:
    with verify(hall, spoilt, lambda _: None) as verified:
        for name in verified.files:
            deed(folder_of(spoilt) / name)
        for name, sealed in verified.files.items():
            assert sealed.bytes() == (folder_of(victim) / name).read_bytes()
        assert load(verified, device="cpu", threads=1).template is not None


@pytest.mark.parametrize("shard", [FIRST_SHARD, SECOND_SHARD])
@pytest.mark.parametrize("deed", [rename_over, append, remove, link, fifo])
def test_a_shard_replaced_after_it_was_opened_is_loaded_as_it_was_registered(
    hall: Hall,
    spoilt: Case,
    registered: dict[str, torch.Tensor],
    shard: str,
    deed: Deed,
) -> None:
    """The bytes of the file that was checked are still there: the name is not asked again."""
    with verify(hall, spoilt, lambda _: None) as verified:
        deed(folder_of(spoilt) / shard)
        assert is_as_registered(load(verified, device="cpu", threads=1), registered)


@pytest.mark.parametrize("shard", [FIRST_SHARD, SECOND_SHARD])
@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        (write_in_place, r"tensor \S+ does not hash"),
        (rewrite_in_place, r"tensor \S+ does not hash"),
        (cut_off, "became shorter"),
        (empty, "became shorter"),
    ],
)
def test_a_shard_written_in_place_after_its_header_was_proven_is_refused(
    hall: Hall, spoilt: Case, shard: str, deed: Deed, rule: str
) -> None:
    before = held()
    with verify(hall, spoilt, lambda _: None) as verified:
        deed(folder_of(spoilt) / shard)
        with pytest.raises(WeightproofError, match=f"{shard}: {rule}") as caught:
            load(verified, device="cpu", threads=1)
        caught.value.with_traceback(None)
    del caught
    assert held() == before


@pytest.mark.parametrize("shard", [FIRST_SHARD, SECOND_SHARD])
def test_a_shared_mapping_that_was_there_before_cannot_change_what_was_loaded(
    hall: Hall, spoilt: Case, registered: dict[str, torch.Tensor], shard: str
) -> None:
    """A mapping writes without any call that could be noticed."""
    path = folder_of(spoilt) / shard
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        with hall.loaded(spoilt) as loaded:
            mapped[-64:] = bytes(64)
            mapped.flush()
            loaded.resident.check()
            assert is_as_registered(loaded, registered)
        with pytest.raises(WeightproofError, match=f"{shard}: tensor .* does not hash"):
            hall.accepts(spoilt)


def test_no_part_of_a_loaded_model_is_the_folders_or_within_anybodys_reach(
    hall: Hall, spoilt: Case
) -> None:
    with hall.loaded(spoilt) as loaded:
        assert str(folder_of(spoilt)) not in Path("/proc/self/maps").read_text()
        reachable = 0
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                if "memfd:weightproof" in str(entry.readlink()):
                    reachable += 1
                    with pytest.raises(PermissionError):
                        entry.write_bytes(b"evil")
                    with pytest.raises(PermissionError):
                        os.truncate(entry, 0)
                    assert entry.read_bytes()
        assert reachable == len(FILES) - 2
        loaded.resident.check()


# Replaced all the time


@contextmanager
def disturbed(deed: Callable[[], object]) -> Iterator[None]:
    """Do something over and over on another thread."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            deed()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("how", ["renamed over", "written in place"])
@pytest.mark.parametrize("name", [FIRST_SHARD, SECOND_SHARD, "config.json", "tokenizer.json"])
def test_a_race_is_lost_by_the_attacker_every_time(
    hall: Hall, spoilt: Case, registered: dict[str, torch.Tensor], name: str, how: str
) -> None:
    """Good and bad bytes take turns under one name; each attempt loads the good or is refused."""
    path = folder_of(spoilt) / name
    good = path.read_bytes()
    bad = good[:-40] + bytes(byte ^ 1 for byte in good[-40:])
    spare = folder_of(spoilt).parent / "spare"
    turns = [good, bad]

    def take_turns() -> None:
        turns.reverse()
        if how == "renamed over":
            spare.write_bytes(turns[0])
            spare.replace(path)
        else:
            with path.open("r+b") as file:
                file.write(turns[0])

    outcomes = {"loaded": 0, "refused": 0}
    until = time.monotonic() + 3
    with disturbed(take_turns):
        while min(outcomes.values()) < 5 and time.monotonic() < until:
            try:
                with hall.loaded(spoilt) as loaded:
                    assert is_as_registered(loaded, registered)
                    loaded.resident.check()
                outcomes["loaded"] += 1
            except WeightproofError as error:
                assert name in error.message, error.message
                outcomes["refused"] += 1
    # An attack that never once got between would show nothing.
    assert outcomes["refused"], outcomes


# A block store that changes its mind


class Fickle:
    """Hands out the right shards the first `good` times it is asked, and others afterwards."""

    def __init__(self, inner: BlockStore, shards: Collection[Cid], good: int) -> None:
        self._inner = inner
        self._left = dict.fromkeys(shards, good)

    def get(self, cid: Cid) -> bytes:
        data = self._inner.get(cid)
        if cid not in self._left:
            return data
        self._left[cid] -= 1
        return data if self._left[cid] >= 0 else data[:-1] + bytes([data[-1] ^ 1])

    def put(self, codec: Codec, data: bytes) -> Cid:
        return self._inner.put(codec, data)

    def has(self, cid: Cid) -> bool:
        return self._inner.has(cid)


@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_store_that_hands_out_other_bytes_the_second_time_is_not_believed(
    hall: Hall, victim: Case, good: int
) -> None:
    """Verifying reads a shard's header alone: the weights are proven where they are used."""
    before = held()
    space, block = hall.workspace, hall.workspace.final_block()
    shards = [
        Cid.of_block(RAW, (folder_of(victim) / name).read_bytes())
        for name in (FIRST_SHARD, SECOND_SHARD)
    ]
    verified = verify_model(
        victim.id,
        registry=space.records,
        attestations=space.attestations,
        blocks=Fickle(space.blocks, shards, good),
        policy=space.config.policy,
        block=block,
        now=block.timestamp,
    )
    with verified, pytest.raises(WeightproofError, match=r"\.safetensors: tensor .* does not hash"):
        load(verified, device="cpu", threads=1)
    assert held() == before


# The running node


def test_a_node_goes_on_with_what_it_loaded_whatever_happens_to_the_folder(
    hall: Hall, spoilt: Case
) -> None:
    """It is asked to hash what lies in its memory, after its folder was ruined."""
    assert hall.ask_node_to_load(spoilt, name="raced") == ""
    try:
        for name in FILES:
            rewrite_in_place(folder_of(spoilt) / name)
        question = {"nonce": "0x" + os.urandom(32).hex(), "tensors": 12}
        with hall.http() as client:
            answer = client.post("/v1/models/raced/attest", json=question)
        assert answer.status_code == 200, answer.text
        assert answer.json()["statement"]["nonce"] == question["nonce"]
    finally:
        unload(hall, "raced")


def unload(hall: Hall, name: str) -> None:
    with OperatorClient(
        hall.node.url,
        signer=hall.workspace.signer("node"),
        chain_id=hall.workspace.chain.chain_id,
        node=hall.node.address,
    ) as operator:
        operator.unload(name)
