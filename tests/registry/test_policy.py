from __future__ import annotations

import pytest

from registry.attestation import Attestation
from registry.errors import ConfigError, FileRefusedError
from registry.policy import Policy, check_file_kind, counted

ATTESTER = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
POLICY = Policy(attesters=frozenset({ATTESTER}))


def attestation(**changes: object) -> Attestation:
    values = {
        "model_id": b"\x01" * 32,
        "attester": ATTESTER,
        "tag": "integrity",
        "score": 10_000,
        "evidence": bytes(32),
        "issued_at": 100,
        "expires_at": 200,
    }
    return Attestation(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "0x12", "nobody.eth", ATTESTER[:-1] + "b"])
def test_a_policy_with_something_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not an address"):
        Policy(attesters=frozenset({text}))
    with pytest.raises(ConfigError, match="not an address"):
        Policy(publishers=frozenset({text}))


@pytest.mark.parametrize(
    "change",
    [
        {"attester": "0x000000000000000000000000000000000000dEaD"},
        {"score": 4_999},
        {"issued_at": 151},
        {"expires_at": 150},
        {"revoked_at": 140},
    ],
)
def test_an_attestation_with_one_flaw_does_not_count(change: dict[str, object]) -> None:
    assert counted(POLICY, [attestation(**change)], 150) == ()


def test_an_attestation_counts_from_its_issue_until_before_its_end() -> None:
    one = attestation()
    assert [t for t in (99, 100, 199, 200) if counted(POLICY, [one], t)] == [100, 199]
    assert counted(POLICY, [attestation(score=5_000)], 150)


@pytest.mark.parametrize("path", ["a.bin", "b/c.PT", "x.safetensors.pkl", "run.py", "m.gguf"])
def test_a_file_of_a_kind_that_runs_code_is_refused(path: str) -> None:
    with pytest.raises(FileRefusedError, match="can run code"):
        check_file_kind(path)


@pytest.mark.parametrize(
    "path", ["model.safetensors", "config.json", "merges.txt", "chat_template.jinja", "LICENSE"]
)
def test_other_files_are_allowed(path: str) -> None:
    check_file_kind(path)


def test_addresses_in_lower_case_are_the_same_addresses() -> None:
    policy = Policy(publishers=frozenset({ATTESTER.lower()}))
    assert policy.publishers == {ATTESTER}
    assert Policy().publishers is None
