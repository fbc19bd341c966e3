"""A node that begins again goes on with its log, and with no older copy of it."""

from __future__ import annotations

import pytest

from registry.errors import ConfigError
from tests.inference.settlement.stall import Stall


def test_an_older_copy_of_an_anchored_log_is_not_gone_on_with(stall: Stall) -> None:
    stall.settlement.start("weightproof 0")
    stall.settlement.anchor()
    stall.restart()
    stall.settlement.start("weightproof 0")  # the same database goes on
    stall.database.close()
    for file in stall.folder.glob("node.db*"):
        file.unlink()
    stall.open()
    with pytest.raises(ConfigError, match="entries of this log that the database does not"):
        stall.settlement.start("weightproof 0")
