"""Compile the contracts into `registry/chain/artifacts`, or check that nothing drifted.

    python scripts/compile_contracts.py            # write the artifacts
    python scripts/compile_contracts.py --check    # compare, write nothing; exit status 1 on drift

The artifacts (ABI and bytecode) are committed, so that users need no compiler. The compiler is
the npm `solc` behind `scripts/solc`, driven by py-solc-x. No metadata hash is appended: the same
sources and settings give the same bytes wherever they are compiled.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import solcx

ROOT = Path(__file__).resolve().parent.parent
ARTIFACTS = ROOT / "registry" / "chain" / "artifacts"
COMPILER = ROOT / "scripts" / "solc"

SOURCES = {
    "ModelRegistry": "contracts/ModelRegistry.sol",
    "Attestations": "contracts/Attestations.sol",
    "AuditAnchor": "contracts/AuditAnchor.sol",
    "NodeRegistry": "contracts/NodeRegistry.sol",
    "ReceiptVerifier": "contracts/ReceiptVerifier.sol",
    "PaymentChannels": "contracts/PaymentChannels.sol",
    "ERC3009DepositCollector": "contracts/ERC3009DepositCollector.sol",
    "DevUSD": "contracts/dev/DevUSD.sol",
    "Rehearsal": "contracts/Rehearsal.sol",
}

# foundry.toml and hardhat.config.js say the same; a test compiles with both and compares.
SETTINGS: dict[str, Any] = {
    "evmVersion": "cancun",
    "metadata": {"bytecodeHash": "none"},
    "optimizer": {"enabled": True, "runs": 200},
    "remappings": ["@openzeppelin/=node_modules/@openzeppelin/"],
}


class SourceWarningError(Exception):
    """The compiler warns of a source of ours. Carries its messages, as it formats them."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


def compile_artifacts() -> dict[str, str]:
    """Compile every contract that leaves this repository.

    Returns the text of each artifact, by file name. Raises `SourceWarningError` when the compiler
    warns of a source of ours, and py-solc-x's `SolcError` when one does not compile.
    """
    compiled = compile_sources({path: (ROOT / path).read_text() for path in SOURCES.values()})
    version = str(solcx.wrapper.get_solc_version(COMPILER))
    return {
        f"{name}.json": render_artifact(name, compiled[path][name], version)
        for name, path in SOURCES.items()
    }


def compile_sources(sources: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Compile sources, given by their path in this repository, and what they import.

    Returns and raises as `compile_artifacts`, but each contract as the compiler gives it.
    """
    wanted = {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}}
    output = solcx.compile_standard(
        {
            "language": "Solidity",
            "sources": {path: {"content": text} for path, text in sources.items()},
            "settings": {**SETTINGS, "outputSelection": wanted},
        },
        base_path=ROOT,
        solc_binary=COMPILER,
    )
    # What a library's source is warned of is not ours to mend.
    messages = [
        message["formattedMessage"]
        for message in output.get("errors", [])
        if not message.get("sourceLocation", {}).get("file", "").startswith("node_modules/")
    ]
    if messages:
        raise SourceWarningError(messages)
    contracts: dict[str, dict[str, Any]] = output["contracts"]
    return contracts


def render_artifact(name: str, contract: dict[str, Any], compiler: str) -> str:
    """Render one compiled contract as the JSON text that is committed."""
    artifact = {
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "compiler": compiler,
        "contractName": name,
        "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
        "settings": SETTINGS,
    }
    return json.dumps(artifact, indent=2, sort_keys=True) + "\n"


def drifted(artifacts: dict[str, str], folder: Path) -> list[str]:
    """Name the files that are missing from the folder, differ, or do not belong there."""
    differing = [
        name
        for name, text in artifacts.items()
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    strangers = [path.name for path in folder.glob("*.json") if path.name not in artifacts]
    return sorted(differing + strangers)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the artifacts.

    Returns:
        The exit status: 0 when all is well, 1 when `--check` found drift.

    """
    parser = argparse.ArgumentParser(
        description="Compile the contracts into registry/chain/artifacts."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on drift")
    check = parser.parse_args(arguments).check

    artifacts = compile_artifacts()
    changed = drifted(artifacts, ARTIFACTS)
    if check:
        for name in changed:
            print(
                f"{name} is not what the sources compile to; run `make contracts`", file=sys.stderr
            )
        return 1 if changed else 0
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for name, text in artifacts.items():
        (ARTIFACTS / name).write_text(text)
    print(f"{len(artifacts)} artifacts, {len(changed)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
