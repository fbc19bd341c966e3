"""The committed ABI and bytecode are what the sources compile to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.compile_contracts import (
    ARTIFACTS,
    SOURCES,
    SourceWarningError,
    compile_artifacts,
    compile_sources,
    drifted,
    main,
)

HEAD = "// SPDX-License-Identifier: Apache-2.0\npragma solidity 0.8.37;\n"


@pytest.fixture(scope="module")
def compiled() -> dict[str, str]:
    return compile_artifacts()


def test_a_source_that_the_compiler_warns_of_is_refused() -> None:
    sloppy = HEAD + "contract Sloppy { function f() external { uint256 unused; } }"
    with pytest.raises(SourceWarningError, match="unused"):
        compile_sources({"contracts/Sloppy.sol": sloppy})


def test_a_changed_a_missing_and_a_strange_artifact_are_named(
    compiled: dict[str, str], tmp_path: Path
) -> None:
    for name, text in compiled.items():
        (tmp_path / name).write_text(text)
    assert drifted(compiled, tmp_path) == []

    (tmp_path / "DevUSD.json").write_text(compiled["DevUSD.json"] + " ")
    (tmp_path / "AuditAnchor.json").unlink()
    (tmp_path / "Stranger.json").write_text("{}")
    assert drifted(compiled, tmp_path) == ["AuditAnchor.json", "DevUSD.json", "Stranger.json"]


def test_the_artifacts_are_what_the_sources_compile_to(compiled: dict[str, str]) -> None:
    assert drifted(compiled, ARTIFACTS) == [], "run `make contracts`"


def test_the_check_says_so_by_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.compile_contracts.compile_artifacts", lambda: {"DevUSD.json": ""})
    assert main(["--check"]) == 1


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_an_artifact_says_what_made_it(name: str) -> None:
    artifact = json.loads((ARTIFACTS / f"{name}.json").read_text())
    assert sorted(artifact) == [
        "abi",
        "bytecode",
        "compiler",
        "contractName",
        "deployedBytecode",
        "settings",
    ]
    assert artifact["contractName"] == name
    assert artifact["compiler"] == "0.8.37"
    assert artifact["settings"]["evmVersion"] == "cancun"
    # EIP-170: no chain takes more deployed code than this.
    assert 0 < len(bytes.fromhex(artifact["deployedBytecode"][2:])) <= 24_576
