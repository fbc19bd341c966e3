from __future__ import annotations

import re
import socket
import subprocess
import sys
from getpass import getuser
from pathlib import Path
from types import ModuleType

from registry.signing.canonical import encode
from registry.training.environment import capture


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_nothing_names_the_host_the_user_or_a_path(tmp_path: Path) -> None:
    text = encode(capture(seed=7).to_json()).decode()
    for private in (str(Path.home()), str(tmp_path), sys.prefix):
        assert private not in text
    # As a word: a short name may stand within that of a package.
    assert not re.search(rf"(?<![\w-]){re.escape(socket.gethostname())}(?![\w-])", text)
    if getuser() != "root":
        assert getuser() not in text


def test_a_folder_that_is_no_repository_has_unknown_code(tmp_path: Path) -> None:
    assert capture(seed=None, code_folder=tmp_path).code == "unknown"
    assert capture(seed=None, code_folder=tmp_path / "missing").code == "unknown"


def test_the_commit_is_noted_and_whether_it_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert capture(seed=None, code_folder=tmp_path).code == "unknown"
    (tmp_path / "train.py").write_text("print(1)\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert capture(seed=None, code_folder=tmp_path).code == f"git:{commit}"
    (tmp_path / "train.py").write_text("print(2)\n")
    assert capture(seed=None, code_folder=tmp_path).code == f"git:{commit}+changes"


def test_capturing_does_not_import_torch() -> None:
    code = (
        "import sys; from registry.training.environment import capture; "
        "e = capture(seed=None); sys.exit('torch' in sys.modules or e.threads != 'none')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_packages_seed_threads_and_machine_are_noted(torch: ModuleType) -> None:
    found = capture(seed=7)
    assert found.packages["torch"].startswith(torch.__version__.split("+")[0])
    assert "weightproof" in found.packages
    assert found.seed == "7"
    assert found.threads == str(torch.get_num_threads())
    assert " x " in found.hardware
    assert found.python.startswith("3.")
    assert capture(seed=None).seed == "none"
