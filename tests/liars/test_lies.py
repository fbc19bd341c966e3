"""Every lie is caught by whom, by the check and after the calls that its file says.

The evidence, as JSON, is shown to a third party, which convicts by it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.liars.judge import KINDS
from tests.liars.stage import Stage
from tests.liars.told import Told, lies, table

README = Path(__file__).parent.parent.parent / "README.md"


def test_there_are_at_least_forty_lies() -> None:
    assert len(lies()) >= 40


def test_the_readme_lists_the_lies() -> None:
    assert table() in README.read_text(), "run: python -m tests.liars.told"


@pytest.mark.parametrize("told", lies(), ids=lambda told: told.name)
def test_a_lie_is_caught_with_evidence(stage: Stage, told: Told) -> None:
    found = told.module.catch(stage)
    assert (found.by, found.check, found.calls) == (told.by, told.check, told.calls), found.message
    evidence = json.loads(json.dumps(found.evidence))
    assert evidence
    KINDS[told.evidence](stage.last, evidence)
