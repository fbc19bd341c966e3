"""Settings of the answers that are kept for retries."""

from __future__ import annotations

from dataclasses import dataclass

from registry.errors import ConfigError
from registry.section import Section


@dataclass(frozen=True)
class AnswersConfig:
    """How long and how large the answers of calls that their payers named are kept for retries.

    In seconds and bytes, of one payer and of all; `keep_s` 0 keeps none. `required` refuses paid
    calls without a payment identifier.
    """

    keep_s: int = 24 * 3600
    payer_bytes: int = 64 * 1024**2
    total_bytes: int = 1024**3
    required: bool = False


def read_answers(section: Section) -> AnswersConfig:
    """Read the section `node.answers`. Raises `ConfigError`."""
    most = 2**50
    defaults = AnswersConfig()
    answers = AnswersConfig(
        keep_s=section.integer("keep_s", defaults.keep_s, high=365 * 24 * 3600),
        payer_bytes=section.integer("payer_bytes", defaults.payer_bytes, low=1, high=most),
        total_bytes=section.integer("total_bytes", defaults.total_bytes, low=1, high=most),
        required=section.flag("required", defaults.required),
    )
    section.finish()
    if answers.required and not answers.keep_s:
        raise ConfigError(
            "node.answers.required asks for identifiers, and keep_s 0 keeps nothing by them",
            hint="set keep_s to the seconds in which a payer may fetch a lost answer",
        )
    return answers
