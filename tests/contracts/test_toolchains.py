"""Foundry and Hardhat both compile the contracts as they ship, and both run all their tests.

One file, so that the two heavy programs run one after the other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.compile_contracts import ARTIFACTS, SOURCES

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "contracts" / "README.md"
# A cold compile on a machine that does much else takes two minutes.
pytestmark = pytest.mark.timeout(900)


def run(*command: str) -> str:
    # npm's programs need the Node of this environment, which need not be activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "CI": "true"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def forge() -> str:
    """Return the platform's forge: the launcher of `npx forge` leaves orphans when it is killed."""
    found = sorted((ROOT / "node_modules" / "@foundry-rs").glob("forge-*/bin/forge"))
    located = str(found[0]) if found else shutil.which("forge")
    assert located is not None, "run `make setup`"
    return located


def shipped(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ARTIFACTS / f"{name}.json").read_text())
    return loaded


def unlawful_words() -> list[str]:
    words = re.compile(r"\b(at|error)\b(?=\s*[;,)=(])")
    return [
        f"{path.name}:{number}"
        for path in sorted((ROOT / "contracts").rglob("*.sol"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if words.search(line.split("//")[0])
    ]


def test_no_name_is_a_coming_keyword() -> None:
    assert unlawful_words() == []


def test_the_sources_are_formatted(forge: str) -> None:
    run(forge, "fmt", "--check")


def test_forge_compiles_what_ships_without_a_warning(forge: str) -> None:
    assert "Warning" not in run(forge, "build", "contracts")
    for name, source in SOURCES.items():
        built = json.loads((ROOT / "out" / Path(source).name / f"{name}.json").read_text())
        assert built["bytecode"]["object"] == shipped(name)["bytecode"]


def test_forge_runs_every_test(forge: str) -> None:
    answer = json.loads(run(forge, "test", "--json").splitlines()[0])
    results = {
        test.split("(")[0]: result["status"]
        for suite in answer.values()
        for test, result in suite["test_results"].items()
    }
    assert set(results.values()) == {"Success"}
    assert set(results) == written_tests()


def test_hardhat_compiles_what_ships_without_a_warning() -> None:
    assert "Warning" not in run("npx", "hardhat", "compile")
    for name, source in SOURCES.items():
        built = json.loads((ROOT / "artifacts" / source / f"{name}.json").read_text())
        assert built["abi"] == shipped(name)["abi"]
        assert built["bytecode"] == shipped(name)["bytecode"]


def test_hardhat_runs_every_test() -> None:
    passed = re.search(r"(\d+) passing", run("npx", "hardhat", "test"))
    assert passed is not None
    assert int(passed[1]) == sum(len(names) for names in written_by_file().values())


def test_every_invariant_of_the_readme_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| [A-Z]\d+ \|.*$", README.read_text(), re.MULTILINE)
    everything = "\n".join(path.read_text() for path in solidity_tests())
    assert len(rows) >= 20
    for row in rows:
        named = re.findall(r"`([a-z]\w+_\w+)`", row.rsplit("|", 2)[1])
        assert named, row
        for name in named:
            assert f"function {name}(" in everything, f"{name} is no test"


def solidity_tests() -> list[Path]:
    return sorted((ROOT / "tests" / "contracts").glob("*.sol"))


def written_by_file() -> dict[str, list[str]]:
    pattern = re.compile(r"function ((?:test|invariant)\w*)\(")
    return {path.name: pattern.findall(path.read_text()) for path in solidity_tests()}


def written_tests() -> set[str]:
    return {name for names in written_by_file().values() for name in names}
