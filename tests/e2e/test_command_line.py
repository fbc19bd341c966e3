"""The command line as a user has it: processes, exit codes, one object on stdout, one sentence."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from inference.cli import app
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.devnet_file import prepare_devnet
from registry.hashing.dataset import hash_folder
from registry.signing.signer import Signer
from tests.e2e.market import CHAT, Market
from tests.registry.model_folders import write_dataset

COMMANDS = ["devnet", "hash", "train", "register", "attest", "revoke", "verify", "show", "serve",
            "models", "probe", "chat", "settle", "checkpoint", "audit", "consent", "demo", "key",
            "top", "log"]  # fmt: skip
NOBODY = "0x" + 64 * "0"
# Nothing listens on port 1.
CLOSED = "http://127.0.0.1:1"
SETTINGS = ("WEIGHTPROOF_CONFIG", "WEIGHTPROOF_RPC_URL", "WEIGHTPROOF_PASSWORD",
            "WEIGHTPROOF_NODE_URL", "DATABASE_URL")  # fmt: skip
COMMAND = [sys.executable, "-m", "inference"]


@dataclass(frozen=True)
class Ran:
    """How a command ended. `json` is its result: exactly one object, on one line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1
        result = json.loads(self.out)
        assert isinstance(result, dict)
        return result

    def refuses(self, code: int, *words: str) -> None:
        """One sentence on stderr, nothing on stdout, and the documented exit code."""
        assert (self.code, self.out) == (code, ""), self.err
        assert self.err.startswith("weightproof: ")
        assert self.err.count("\n") == 1
        for word in words:
            assert word in self.err


def environment(**more: str) -> dict[str, str]:
    """What a user has, without settings of whoever runs the tests; torch on one thread."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"} | more


def weightproof(*arguments: object, cwd: Path | None = None, **more: str) -> Ran:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def inside(*arguments: object, answer: str = "", **more: str | None) -> Ran:
    """Run the command in this process, which spares seconds of imports; errors must not escape."""
    unset: dict[str, str | None] = dict.fromkeys(SETTINGS)
    done = CliRunner().invoke(app, [*map(str, arguments)], input=answer, env=unset | more)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def changed(market: Market, folder: Path, old: str, new: str) -> Path:
    """Return a copy of the market's settings with one change."""
    text = market.config.read_text()
    assert old in text
    path = folder / "weightproof.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def publisher(market: Market) -> str:
    return market.workspace.signer("publisher").address


def read_until(stream: IO[str], word: str) -> str:
    """Read until a word has come, wherever it stands in a line."""
    read = ""
    while word not in read:
        letter = stream.read(1)
        assert letter, f"{word!r} never came: {read}"
        read += letter
    return read


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Start a devnet in a process of its own; yields it and what it printed when it was ready."""
    with subprocess.Popen(
        [*COMMAND, "devnet", "--folder", str(folder), "--json"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, json.loads(process.stdout.readline() if process.stdout else "")
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], how: signal.Signals) -> int:
    """Send a signal; return the exit code of an end that left nothing else to read."""
    process.send_signal(how)
    assert process.communicate(timeout=60) == ("", "")
    return process.returncode


def test_without_a_settings_file_a_command_says_how_to_get_one(tmp_path: Path) -> None:
    ran = weightproof("verify", NOBODY, "--json", cwd=tmp_path)
    ran.refuses(2, "no weightproof.toml here or above", "weightproof devnet")


def test_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    inside("settle", "--config", tmp_path / "none.toml").refuses(2, "none.toml")
    inside("show", NOBODY, WEIGHTPROOF_CONFIG=str(tmp_path / "no")).refuses(2, "WEIGHTPROOF_CONFIG")


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("[policy]", "[polcy]", "polcy"),
        ("min_attestations", "min_atestations", "policy.min_atestations"),
        ("[store]", "[store]\nkuboo = 1", "store.kuboo"),
    ],
)
def test_a_misspelt_setting_is_refused_by_its_name(
    market: Market, tmp_path: Path, old: str, new: str, name: str
) -> None:
    path = changed(market, tmp_path, old, new)
    for command in (["verify", NOBODY], ["settle"]):
        inside(*command, "--config", path).refuses(2, f"unknown setting {name}")


def test_a_chain_that_does_not_answer_is_exit_4(market: Market) -> None:
    here = ("--config", market.config)
    inside("show", NOBODY, *here, WEIGHTPROOF_RPC_URL=CLOSED).refuses(4, "127.0.0.1:1", "endpoint")
    inside("settle", *here, "--json", WEIGHTPROOF_RPC_URL=CLOSED).refuses(4, "127.0.0.1:1")


def test_a_node_that_does_not_answer_is_exit_4(market: Market) -> None:
    here = ("--config", market.config)
    inside("chat", "hi", *here, WEIGHTPROOF_NODE_URL=CLOSED).refuses(4, "is the node running")
    inside("audit", *here, "--node", CLOSED).refuses(4, "is the node running")
    not_a_node = market.devnet.rpc_url
    inside("chat", "hi", *here, "--node", not_a_node).refuses(4, "not a node of ours")


@pytest.mark.parametrize(
    "command",
    [
        ["show"],
        ["verify"],
        ["attest", "--tag", "safety", "--score", "1"],
        ["revoke", "--reason", "none"],
    ],
    ids=lambda command: command[0],
)
def test_an_unknown_record_is_exit_3(market: Market, command: list[str]) -> None:
    name, *options = command
    for record in (
        NOBODY,
        "0x12",
        "x/y",
        f"{publisher(market)}/none",
        f"{publisher(market)}/\udcff",
    ):
        ran = inside(name, record, *options, "--config", market.config)
        ran.refuses(3, "no record")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frog", "data"], ["'frog'", "register dataset FOLDER"]),
        (["run", "data"], ["register run MANIFEST"]),
        (["model", "data", "--parent", "run:12"], ["KIND:ID"]),
        (["dataset", "data", "--name", "Not A Name"], ["'Not A Name'", "a-z"]),
        (["dataset", "data", "--key", "nobody"], ["'nobody'", "[keys]"]),
    ],
)
def test_what_cannot_be_registered_is_refused_before_anything_is_sent(
    market: Market, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    data = write_dataset(tmp_path / "data")
    block = market.workspace.chain.head().number
    what, _, *options = arguments
    ran = inside("register", what, data, *options, "--config", market.config)
    ran.refuses(2, *words)
    assert market.workspace.chain.head().number == block


def test_published_keys_are_refused_off_the_devnet(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    with Devnet.start() as net:
        path, _ = prepare_devnet(Chain(net.rpc_url), tmp_path / "net", net.rpc_url)
        Chain(net.rpc_url).rpc("anvil_setChainId", 8453)
        path.write_text(path.read_text().replace("chain_id = 31337", "chain_id = 8453"))
        path.write_text(path.read_text().replace("settle_every_s = 0", "settle_every_s = 60"))
        for command in (["register", "dataset", str(data)], ["settle"]):
            ran = inside(*command, "--config", path)
            ran.refuses(2, "published keys", "8453", "make a key of your own")


def test_a_flipped_bit_is_exit_3_and_the_file_is_named(market: Market, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(market.config.parent / "llama", copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    model = "0x" + market.models[CHAT].hex()
    ran = weightproof("verify", model, "--folder", copy, "--json", "--config", market.config)
    ran.refuses(3, "step 6", "model.safetensors")


def test_a_port_that_is_taken_is_exit_2_before_anything_is_loaded(market: Market) -> None:
    port = market.node.url.rpartition(":")[2]
    ran = weightproof("serve", "--json", "--port", port, "--config", market.config)
    ran.refuses(2, f"127.0.0.1:{port}", "--port")


def test_a_deposit_is_never_made_without_a_yes(market: Market) -> None:
    ask = ("chat", "hi", "--key", "attester", "--config", market.config, "--node", market.node.url)
    inside(*ask, "--json").refuses(5, "a deposit of 0.00", "nothing was paid", "--yes")
    silent, declined = inside(*ask), inside(*ask, answer="n\n")
    assert silent.code == declined.code == 5
    assert "nobody confirmed it; nothing was paid (give --yes to allow it)" in silent.err
    assert "declined; nothing was paid" in declined.err


def test_ctrl_c_at_the_question_pays_nothing(market: Market) -> None:
    ask = ["chat", "hi", "--key", "attester", "--node", market.node.url]
    with subprocess.Popen(
        [*COMMAND, *ask, "--config", str(market.config)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        read_until(process.stderr, "Deposit")
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "nothing was paid" in rest
    assert "Traceback" not in rest


def test_what_is_not_sold_or_cannot_be_kept_is_refused_before_it_is_paid(
    market: Market, tmp_path: Path
) -> None:
    before = len(market.log_entries())
    ask = ("chat", "hi", "--yes", "--config", market.config, "--node", market.node.url)
    inside(*ask, "--model", "gpt-9").refuses(2, "'gpt-9'", CHAT)
    inside(*ask, "--scheme", "barter").refuses(2, "'barter'", "batch-settlement or exact")
    inside(*ask, "--save", tmp_path / "none" / "paid.json").refuses(2, "cannot write")
    inside(*ask, "--save", tmp_path / "paid.request").refuses(2, "paid.json")
    assert len(market.log_entries()) == before


def test_an_audit_is_not_begun_with_a_wrong_argument(market: Market, tmp_path: Path) -> None:
    audit = ("audit", "--config", market.config, "--node", market.node.url)
    inside(*audit, "--address", "0x12").refuses(2, "--address", "not an address")
    inside(*audit, "--receipt", tmp_path / "none.json").refuses(2, "none.json")
    other = tmp_path / "other.json"
    other.write_text("[1]")
    assert inside(*audit, "--receipt", other).code in (2, 3)


def test_a_key_is_not_made_without_a_password_nor_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    inside("key", path).refuses(2, "no terminal", "WEIGHTPROOF_PASSWORD")
    path.write_text("mine")
    inside("key", path, WEIGHTPROOF_PASSWORD="secret").refuses(2, "exists")
    assert path.read_text() == "mine"


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    inside("devnet", "--folder", file).refuses(1, str(file), "Not a directory")
    inside("hash", file).refuses(3, "file", "folder")
    wrong = weightproof("devnet", "--port", "70000")
    assert wrong.code == 2
    assert "--port" in wrong.err
    assert "65535" in wrong.err


def test_ctrl_c_while_modules_are_imported_is_silent() -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "inference", "settle"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        # The table of imports tells when ours have begun; the slow ones come after Typer.
        read_until(process.stderr, " typer\n")
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert out == ""
    assert all(line.startswith("import time:") for line in rest.splitlines() if line)


def test_help_lists_every_command_and_teaches_each() -> None:
    ran = weightproof("--help")
    assert ran.code == 0
    assert "Usage: weightproof" in ran.out
    for line in (
        "2  wrong settings",
        "3  verification refused",
        "6  a receipt",
        "21 to 28  an audit",
    ):
        assert line in ran.out
    for command in COMMANDS:
        assert re.search(rf"^\W*{command}\s", ran.out, re.MULTILINE), command
        taught = inside(command, "--help")
        assert taught.code == 0
        assert re.search(rf"Examples?:(.|\n)*weightproof {command}", taught.out), command
        assert "--json" in taught.out


def test_hash_prints_the_cids_that_registering_would_record(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data")
    # Brackets, colons and escapes are part of a name: nothing may read them as markup.
    (folder / "[red]:smile:.txt").write_text("x")
    hashed = hash_folder(folder)
    found = weightproof("hash", folder, "--json").json
    assert found["root"] == str(hashed.root)
    assert found["files"] == {file.path: str(file.cid) for file in hashed.files}
    assert found["bytes"] == hashed.total_bytes
    shown = inside("hash", folder)
    assert "[red]:smile:.txt" in shown.out
    assert str(hashed.root) in shown.out


def test_a_key_is_made_encrypted_and_opens_with_its_password(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    made = inside("key", path, "--json", WEIGHTPROOF_PASSWORD="secret").json
    assert made == {"address": Signer.from_keystore(path, "secret").address, "keystore": str(path)}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_devnet_keeps_its_state_and_is_alone_in_its_folder(tmp_path: Path) -> None:
    folder, config = tmp_path / "net", tmp_path / "net" / "weightproof.toml"
    data = write_dataset(tmp_path / "data")
    with started(folder) as (process, first):
        assert first["config"] == str(config)
        assert Chain(first["rpc_url"]).chain_id == first["chain_id"] == 31337
        # A settings file is found upwards from where the command runs.
        made = weightproof("register", "dataset", data, "--json", cwd=folder / ".weightproof").json
        inside("devnet", "--folder", folder).refuses(2, "a devnet is running", str(folder))
        assert ended(process, signal.SIGTERM) == 0
    config.write_text(config.read_text() + "# mine\n")
    with started(folder) as (process, second):
        assert second["model_registry"] == first["model_registry"]
        shown = inside("show", made["id"], "--config", config, "--json").json
        assert shown["manifest"]["name"] == "data"
        assert config.read_text().endswith("# mine\n")
        assert ended(process, signal.SIGINT) == 0


def test_the_same_registration_twice_is_one_record(market: Market, tmp_path: Path) -> None:
    here = ("--config", market.config, "--json")
    data = write_dataset(tmp_path / "twice")
    order = ("register", "dataset", data, "--name", "twice", "--relayer", "payer")
    first = inside(*order, *here).json
    block = market.workspace.chain.head().number
    second = inside(*order, *here).json
    assert second == first | {"transaction": "", "gas_used": 0}
    assert first["gas_used"] > 0
    llama = ("register", "model", market.config.parent / "llama", "--name", CHAT)
    again = inside(*llama, *here).json
    assert (again["id"], again["transaction"]) == ("0x" + market.models[CHAT].hex(), "")
    # The market gave the model no name on chain: that is the one thing that was sent.
    assert market.workspace.chain.head().number == block + 1
    assert inside(*llama, *here).json == again
    assert market.workspace.chain.head().number == block + 1


def test_a_model_is_attested_verified_and_shown_by_its_name(market: Market, tmp_path: Path) -> None:
    here = ("--config", market.config, "--json")
    model = "0x" + market.models[CHAT].hex()
    report = tmp_path / "report.txt"
    report.write_text("It answers.")
    inside("register", "model", market.config.parent / "llama", "--name", CHAT, *here)
    attest = ("attest", model, "--tag", "integrity", "--score", "9000", "--evidence", report)
    attested = inside(*attest, *here).json
    assert attested["attester"] == market.workspace.signer("attester").address
    verified = inside("verify", f"{publisher(market).lower()}/{CHAT}", *here).json
    assert verified["verified"] is True
    assert verified["model_id"] == model
    assert verified["attesters"] == [attested["attester"]]
    shown = inside("show", model, *here).json
    assert (shown["kind"], shown["status"], shown["manifest"]["name"]) == ("model", "active", CHAT)
    assert {(a["tag"], a["score"]) for a in shown["attestations"]} == {
        ("integrity", 10_000),
        ("integrity", 9_000),
    }


def test_a_record_is_revoked_for_good_by_its_publisher_only(market: Market, tmp_path: Path) -> None:
    here = ("--config", market.config, "--json")
    data = write_dataset(tmp_path / "withdrawn", rows=1)
    record = inside("register", "dataset", data, *here).json["id"]
    revoke = ("revoke", record, "--reason", "[/red] withdrawn")
    inside(*revoke, "--key", "payer", *here).refuses(4, "NotPublisher")
    told = inside(*revoke, "--config", market.config)
    assert told.code == 0
    # A person reads what was written: brackets are no markup.
    assert record in told.out
    assert "[/red] withdrawn" in told.out
    shown = inside("show", record, *here).json
    assert shown["status"] == "revoked"
    assert shown["revoked_at"] > 0
    inside("register", "dataset", data, *here).refuses(3, "revoked")


def test_an_answer_is_bought_settled_anchored_and_audited(market: Market, tmp_path: Path) -> None:
    here = ("--config", market.config)
    node = ("--node", market.node.url)
    receipt = tmp_path / "paid.json"
    ask = ("chat", "Hello", "--max-tokens", "6", "--yes", *node, *here)
    bought = weightproof(*ask, "--save", receipt, "--json").json
    assert bought["receipt"] == json.loads(receipt.read_text())
    assert json.loads(receipt.with_suffix(".request").read_text())["max_tokens"] == 6
    assert int(bought["charged"]) > 0

    # A person sees the answer and what it cost; the channel is open, so nothing is asked.
    plain = inside("chat", "Hello", "--max-tokens", "6", "--no-stream", *node, *here)
    assert plain.code == 0
    cost = f"tokens cost {int(bought['charged']) / 10**6:.6f} · receipt rcpt_"
    assert cost in plain.out
    assert all(letter.isprintable() or letter == "\n" for letter in plain.out)

    settled = weightproof("settle", *here, "--json").json
    assert int(settled["claimed"]) == int(settled["settled"]) == 2 * int(bought["charged"])
    assert inside("settle", *here, "--json").json["claimed"] == "0"
    anchored = inside("checkpoint", *here, "--json").json
    assert anchored["transaction"].startswith("0x")

    # In lower case it is the same key.
    audit = ("audit", "--address", market.node.address.lower(), *node, *here)
    report = inside(*audit, "--receipt", receipt, "--json").json
    assert report["ok"] is True
    assert all(check["ok"] and check["ran"] for check in report["checks"]), report
    told = inside(*audit)
    assert told.code == 0
    assert "✓ 1 checkpoint signature" in told.out
    assert "every check that ran is good" in told.out

    tampered = tmp_path / "tampered.json"
    bundle = json.loads(receipt.read_text())
    bundle["receipt"]["payment"]["charged"] = "1"
    tampered.write_text(json.dumps(bundle))
    found = weightproof(*audit, "--receipt", tampered, "--json", "--evidence", tmp_path / "found")
    assert found.code == 27
    report = json.loads(found.out)
    assert report["exitCode"] == 27
    [finding] = (tmp_path / "found").iterdir()
    assert json.loads(finding.read_text())["evidence"]["receipt"]["receipt"] == bundle["receipt"]
    assert report["ok"] is False
    assert [c["number"] for c in report["checks"] if c["ran"] and not c["ok"]] == [7]
    accused = inside("audit", "--address", publisher(market), *node, *here)
    assert accused.code == 21
    assert "✗ 1 checkpoint signature" in accused.out
    assert "--json prints it" in accused.out

    # What it was told is saved, and repeated where there is neither node nor chain nor settings.
    bundled, shown = tmp_path / "audit.bundle", tmp_path / "audit.html"
    assert inside(*audit, "--save", bundled, "--json").json["ok"] is True
    again = weightproof("audit", "--bundle", bundled, "--report", shown)
    assert again.code == 0
    assert "the chain was not asked" in again.out
    assert "Every check that ran is good" in shown.read_text()
    bundled.write_bytes(bundled.read_bytes().replace(b'"charged":"', b'"charged":"1', 1))
    inside("audit", "--bundle", bundled).refuses(3, "its digest is of other lines")
    inside("audit", "--bundle", bundled, "--resume").refuses(2, "--bundle goes with")

    state = ("--state", tmp_path / "state.json", "--json")
    first, second = (inside(*audit, *state).json["figures"] for _ in range(2))
    assert (first["before"], second["before"]) == (0, first["entries"])


def test_ctrl_c_ends_a_node_in_order(market: Market) -> None:
    process = market.node._process
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "Traceback" not in (market.config.parent / "node.log").read_text()
