from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.siege import Siege
from tests.crash.world import World, opened

# Deadlines short enough to wait for, and few enough connections to use up.
_SETTINGS = """settle_every_s = 1
anchor_every_s = 1
header_timeout_s = 1
body_timeout_s = 1
max_header_bytes = 8192
max_body_bytes = 65536
max_connections_per_address = 200"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One chain and one database for all tests here: each begins with what the last one left."""
    with opened(tmp_path_factory.mktemp("crash"), _SETTINGS) as world:
        yield world


@pytest.fixture(scope="session")
def siege(world: World) -> Iterator[Siege]:
    with Siege(world) as siege:
        yield siege
