"""The call log: its lines, what is not in them, and that no call waits for it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from inference.journal import Journal, line
from registry.errors import ConfigError
from tests.inference import receipt_samples
from tests.inference.call_samples import ended, refused


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_a_log_that_cannot_be_written_is_refused_when_the_node_starts(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for where in (tmp_path, tmp_path / "no" / "log", pipe):
        with pytest.raises(ConfigError, match=r"node\.call_log"):
            Journal(str(where))


def test_a_disk_that_fails_costs_lines_and_no_call(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    journal = Journal(str(folder / "calls"))
    (folder / "calls").unlink()
    folder.rmdir()
    journal.ended(ended())
    journal.close()
    assert journal.dropped == 1


def test_more_lines_than_may_wait_are_dropped_and_counted(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "calls"), limit=2)
    journal.close()  # nobody takes lines out any more
    for _ in range(5):
        journal.ended(ended())
    assert journal.dropped == 3


def test_whoever_only_asks_for_the_price_writes_nothing(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "calls"))
    journal.ended(refused("unpaid"))
    journal.ended(refused())
    journal.close()
    (told,) = lines(tmp_path / "calls")
    assert (told["status"], told["code"], told["model"]) == ("refused", "model_not_found", "")
    assert "charged" not in told


def test_a_line_says_how_a_call_went_and_not_who_paid() -> None:
    text = line(ended())
    told = json.loads(text)
    assert told == {
        "time": "2025-11-24T16:00:00.123Z",
        "model": "smollm2",
        "operation": "chat",
        "status": "ok",
        "code": "",
        "scheme": "batch-settlement",
        "streamed": True,
        "ttft_ms": 250.0,
        "duration_ms": 1500.0,
        "model_id": "0x" + "01" * 32,
        "input_tokens": 4,
        "output_tokens": 2,
        "finish": "stop",
        "charged": "128",
        "asset": receipt_samples.ASSET,
        "receipt": "rcpt_0123456789abcdef",
        "seq": 3,
    }
    for secret in (receipt_samples.PAYER.address, receipt_samples.CHANNEL.hex()):
        assert secret.lower() not in text.lower()


def test_a_hostile_name_stays_on_its_line() -> None:
    text = line(ended(model='a\n{"forged": 1}\u2028\ud800'))
    assert text.count("\n") == 1
    assert text.isascii()
    assert json.loads(text)["model"].startswith("a\n")


def test_a_log_may_be_moved_away_while_the_node_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    journal = Journal(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.rename(tmp_path / "old")
    journal.ended(ended())
    journal.close()
    assert len(lines(path)) == 1
    assert (tmp_path / "old").read_text() == ""


def test_a_dash_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal("-")
    journal.ended(ended())
    journal.close()
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["status"]) == ("", "ok")
