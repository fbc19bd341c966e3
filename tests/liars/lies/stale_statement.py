"""Asked to hash its weights now, the node shows what it signed before.

Caught by the payer's probe, check 2, after 0 calls.
Evidence: a signed statement.
"""

from __future__ import annotations

from dataclasses import replace

from inference.probe_command import probe
from inference.probe_report import ProbeReport
from registry.terminal import Terminal
from tests.liars.actor import MODEL, Actor
from tests.liars.finding import PROBE, Found
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    before = b""

    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if not answer.path.endswith("/attest") or answer.status not in (200, 429):
            return answer
        self.before = self.before or answer.body
        return replace(answer, status=200, body=self.before)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:

        def ask() -> ProbeReport:
            return probe(
                stage.workspace,
                actor.url,
                MODEL,
                Terminal(as_json=True),
                address=actor.address,
                tensors=2,
            )

        assert ask().ok
        report = ask()
        [first, *_] = [check for check in report.checks if not check.ok]
        return Found(PROBE, f"check {first.number}", actor.calls, first.evidence, first.detail)
