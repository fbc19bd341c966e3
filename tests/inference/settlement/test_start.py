"""A node that begins again goes on with its log, and with no older copy of it."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from inference import schema
from inference.audit.note_key import note_key
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


def test_a_head_of_an_older_version_gets_the_line_that_public_tools_read(stall: Stall) -> None:
    stall.settlement.start("weightproof 0")
    first = stall.settlement.checkpoint()
    key = note_key(stall.settlement.signer, stall.settlement.log.origin)
    older = "\n".join(first.note.split("\n")[:-2]) + "\n"
    table = schema.checkpoints
    stall.database.write_now(lambda tx: tx.execute(update(table).values(note=older)))
    again = stall.settlement.checkpoint()
    assert again.note == first.note
    assert again.bears(key.verifier) == 0
    assert stall.settlement.checkpoint() == again
