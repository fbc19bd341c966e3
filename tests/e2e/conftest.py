from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.market import Market, opened


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with opened(tmp_path_factory.mktemp("market")) as market:
        yield market
