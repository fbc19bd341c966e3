"""Every attack stands on one stage, and after each file of attacks the node must still sell."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.hall import Hall, opened


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
