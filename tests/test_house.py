"""The house: who may import whom, how large a room may be, which names are not nouns."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path
    for top in ("registry", "inference", "scripts")
    for path in (ROOT / top).rglob("*.py")
    if "migrations/versions" not in path.as_posix()
)
CONTRACTS = sorted((ROOT / "contracts").rglob("*.sol"))
NOT_NOUNS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
MAX_LINES = 320
MAX_FUNCTION_LINES = 60

# Only the listed places may import a package; a place is a folder or a file.
ONLY = {
    "web3": ["registry/chain"],
    "torch": [
        "inference/loader.py",
        "inference/resident.py",
        "inference/engine",
        "registry/training",
        "inference/demo",
        "scripts",
    ],
    "fastapi": ["inference/api", "scripts/payments_bench"],
    "sqlite3": ["inference/sqlite.py"],
    "ipfshttpclient": ["registry/ipfs/kubo.py"],
    "solcx": ["scripts/compile_contracts.py"],
    "x402": [
        "inference/client.py",
        "inference/wallet.py",
        "scripts/payments_bench/official_server.py",
    ],
}
ONLY["transformers"] = ONLY["torch"]
# Strangers: none of these imports another of them.
STRANGERS = ("inference.engine", "inference.payments", "inference.audit")
# What stands below may not know what stands above.
NEVER = {
    "registry": ("inference",),
    "registry/signing": (
        "registry.chain",
        "registry.ipfs",
        "registry.hashing",
        "registry.training",
    ),
    "registry/ipfs": ("registry.chain", "registry.hashing", "registry.training"),
    "registry/hashing": ("registry.chain", "registry.training"),
    "inference/engine": ("inference.api", "inference.node", "inference.paid_call"),
    "inference/payments": ("inference.api", "inference.node", "inference.paid_call"),
    "inference/audit": ("inference.api", "inference.node", "inference.paid_call"),
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            yield node.module or ""


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    here = name_of(path)
    for module in imports(path):
        for package, places in ONLY.items():
            if within(module, package):
                assert any(here == p or here.startswith(p + "/") for p in places), (
                    f"{here} imports {module}"
                )
        for place, forbidden in NEVER.items():
            if here.startswith(place + "/"):
                assert not any(within(module, f) for f in forbidden), f"{here} imports {module}"
        for stranger in STRANGERS:
            if here.startswith(stranger.replace(".", "/") + "/"):
                others = [s for s in STRANGERS if s != stranger]
                assert not any(within(module, s) for s in others), f"{here} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_config_reads_the_environment(path: Path) -> None:
    if path.name == "config.py" or name_of(path).startswith("scripts/"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")), (
            f"{name_of(path)} reads the environment"
        )


@pytest.mark.parametrize("path", FILES + CONTRACTS, ids=name_of)
def test_a_room_is_small_and_bears_the_name_of_a_noun(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES, f"{name_of(path)} has {lines} lines"
    assert path.stem not in NOT_NOUNS


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name_of(path)}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_bare_value_error_and_no_assert_on_foreign_input(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Assert), f"{name_of(path)}:{node.lineno} asserts"
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            raised = getattr(node.exc.func, "id", "")
            assert raised not in ("ValueError", "Exception", "RuntimeError"), (
                f"{name_of(path)}:{node.lineno} raises {raised}"
            )


def test_importing_the_registry_does_not_import_torch() -> None:
    code = (
        "import sys, registry.register, registry.verify, registry.cli; "
        "sys.exit(bool({'torch', 'transformers', 'fastapi'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_nothing_committed_names_a_registry_host_or_a_path_of_a_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    forbidden = [
        "pypi" + ".org",
        "npmjs" + ".org",
        "pythonhosted" + ".org",
        "/wo" + "rk/",
        "/ro" + "ot/",
    ]
    for name in listed:
        path = ROOT / name
        if path.is_file() and path.suffix not in (".png", ".ico"):
            text = path.read_text(errors="replace")
            for word in forbidden:
                assert word not in text, f"{name} names {word}"
