"""A node killed at a step of a paid call, under load, loses nothing and charges nothing twice.

`python -m tests.crash.torture` kills hundreds of times, at every step; here at each kind of step
once: where money is set aside, moved, charged, told of and claimed.
"""

from __future__ import annotations

import pytest

from tests.crash.siege import STEPS, Siege

# How many times a step is let pass before the node dies at it.
KILLS = {
    "c5 a call is reserved": 3,
    "c5 a deposit is sent": 2,
    "c7 an exact transfer is sent": 2,
    "c8 all is written, not committed": 4,
    "c8 all is committed": 5,
    "c9 between head and body": 3,
    "d2 a claim is sent": 1,
    "d6 a head is sent": 1,
    "a refund is sent": 1,
    "while it starts": 1,
}


def test_every_step_that_is_named_here_exists() -> None:
    assert KILLS.keys() <= STEPS.keys()


@pytest.mark.parametrize("step", KILLS)
def test_nothing_is_lost_or_charged_twice_when_the_node_dies(siege: Siege, step: str) -> None:
    trial = siege.kill_at(step, KILLS[step])
    assert trial.wrong == []
    assert trial.reached


def test_afterwards_everybody_buys_all_is_claimed_and_an_audit_finds_nothing(siege: Siege) -> None:
    assert siege.peace() == []
