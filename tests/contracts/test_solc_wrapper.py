"""`scripts/solc` behaves as the native compiler's command line does, as far as our tools use it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
HEAD = "// SPDX-License-Identifier: Apache-2.0\npragma solidity 0.8.37;\n"


def solc(*words: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "solc"), *words]
    return subprocess.run(
        command, input=standard_input, capture_output=True, text=True, timeout=120, check=False
    )


def compiled(source: str, *words: str) -> dict[str, Any]:
    request = {
        "language": "Solidity",
        "sources": {"A.sol": {"content": HEAD + source}},
        "settings": {"outputSelection": {"*": {"*": ["abi"]}}},
    }
    run = solc("--standard-json", *words, standard_input=json.dumps(request))
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def messages(answer: dict[str, Any]) -> list[str]:
    return [message["message"] for message in answer.get("errors", [])]


def test_an_unknown_option_is_refused_by_name() -> None:
    run = solc("--ir")
    assert run.returncode == 1
    assert run.stderr == "unrecognised option '--ir'\n"
    assert run.stdout == ""


def test_an_option_without_its_value_is_refused() -> None:
    run = solc("--base-path")
    assert run.returncode == 1
    assert "--base-path" in run.stderr


def test_a_call_that_asks_for_nothing_is_refused() -> None:
    assert solc().returncode == 1


def test_an_import_outside_the_allowed_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "Outside.sol").write_text(HEAD)
    (tmp_path / "inside" / "Linked.sol").symlink_to(tmp_path / "Outside.sol")
    base = f"--base-path={tmp_path / 'inside'}"
    for name in (f"{tmp_path}/Outside.sol", "Linked.sol"):
        said = messages(compiled(f'import "{name}";', base))
        assert any("outside of allowed directories" in message for message in said)


def test_a_missing_import_is_an_error_in_the_answer(tmp_path: Path) -> None:
    said = messages(compiled('import "Nowhere.sol";', "--base-path", str(tmp_path)))
    assert any("File not found" in message for message in said)


def test_no_import_is_resolved_when_that_is_asked_for() -> None:
    said = messages(compiled('import "contracts/AuditAnchor.sol";', "--no-import-callback"))
    assert any("not found" in message for message in said)


def test_a_compile_error_leaves_the_status_at_zero() -> None:
    answer = compiled("contract A { nonsense }")
    assert answer["errors"][0]["severity"] == "error"


def test_the_last_line_of_the_version_is_what_tools_look_for() -> None:
    last = solc("--version").stdout.splitlines()[-1]
    assert last.startswith("Version: 0.8.37+commit.")
    assert last.endswith(".Emscripten.clang")


def test_imports_are_found_under_base_path_include_path_and_allowed_folders(
    tmp_path: Path,
) -> None:
    for folder in ("base", "include", "allowed"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.sol").write_text(HEAD)
    source = f'import "base.sol"; import "include.sol"; import "{tmp_path}/allowed/allowed.sol";'
    words = ("--base-path", f"{tmp_path}/base", "--include-path", f"{tmp_path}/include")
    answer = compiled(source, *words, f"--allow-paths={tmp_path}/nowhere,{tmp_path}/allowed")
    assert messages(answer) == []
