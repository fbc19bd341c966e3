"""Every attack stands on one stage, and after each file of attacks the node must still sell."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.hall import Case, Hall, opened
from tests.attacks.registered_victim import copied, victim_of


@pytest.fixture(scope="session")
def hall(tmp_path_factory: pytest.TempPathFactory, torch: object) -> Iterator[Hall]:
    with opened(tmp_path_factory.mktemp("hall")) as hall:
        yield hall


@pytest.fixture(scope="module", autouse=True)
def _unharmed(hall: Hall) -> Iterator[None]:
    """After a file of attacks: the same models on sale, nothing charged, and a paid call served."""
    before, bought = hall.books(), len(hall.bought)
    yield
    after, bought = hall.books(), len(hall.bought) - bought
    assert (after.catalog, after.stopped) == (before.catalog, before.stopped)
    assert after.receipts == before.receipts + bought
    assert bought or after.rows == before.rows
    assert hall.pay().text
    assert hall.books().receipts == after.receipts + 1


@pytest.fixture
def folder(hall: Hall, tmp_path: Path) -> Path:
    """A copy of the good model's folder, to be spoilt."""
    return Path(shutil.copytree(hall.folder, tmp_path / "bad"))


@pytest.fixture(scope="module")
def victim(hall: Hall) -> Case:
    """A registered model of several shards, for what is done to files and blocks."""
    return victim_of(hall)


@pytest.fixture
def spoilt(victim: Case, tmp_path: Path) -> Case:
    """A copy of the victim's folder, to be changed."""
    return copied(victim, tmp_path / "bad")
