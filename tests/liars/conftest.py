from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.liars.stage import Stage, opened


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with opened(tmp_path_factory.mktemp("stage")) as stage:
        yield stage
