"""What an auditor is asked beside the log itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inference.audit.model_standing import Terms
from inference.audit.quorum import Quorum
from inference.audit.replay import Disclosure, Replayer
from inference.audit_memory import AuditMemory
from inference.receipts import SignedReceipt
from inference.replay_check import Drawn


@dataclass(frozen=True)
class Questions:
    """What an audit is asked beside the log itself.

    `given` are payers' receipts, `known` checkpoint notes seen earlier, `disclosures` what payers
    show of their calls, by receipt id, for `replayer` to run again, `drawn` what is asked of calls
    that the beacon chooses. `quorum` is of the witnesses that must have cosigned the head.
    `processes` examine the log; 0: as many as there are processors, if it is long. `memory` knows
    what was good before: then only what is new is read, unless calls are to be replayed.
    `told_origin` says that the log's name is the auditor's knowledge and not the node's word.
    """

    terms: Terms = field(default_factory=Terms)
    given: Sequence[SignedReceipt] = ()
    known: Sequence[str] = ()
    disclosures: Mapping[str, Disclosure] = field(default_factory=dict)
    replayer: Replayer | None = None
    quorum: Quorum = field(default_factory=Quorum)
    drawn: Drawn = field(default_factory=Drawn)
    processes: int = 0
    memory: AuditMemory | None = None
    told_origin: bool = True
