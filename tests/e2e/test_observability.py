"""What a node tells of itself: its sums are its receipts', and nobody's words are in it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference.client import CHAT as CHAT_ROUTE
from registry.signing.signer import Signer
from tests.e2e.market import CHAT, CLASSIFIER, CLASSIFY_PATH, Market, ask, opened
from tests.e2e.shop import opened as shop_opened
from tests.e2e.test_command_line import CLOSED, COMMAND, environment, inside, weightproof
from tests.fakes.trace_collector import Collector, collecting
from tests.inference import tiny_models

SECRET = "xylophone quagmire"
STOP = "zzqqzz"


@dataclass(frozen=True)
class Watched:
    """A market whose node is watched in every way, after some paid calls."""

    market: Market
    collector: Collector

    @property
    def receipts(self) -> list[dict[str, Any]]:
        entries = self.market.log_entries()
        return [entry["body"]["receipt"] for entry in entries if entry["kind"] == "receipt"]

    @property
    def lines(self) -> list[dict[str, Any]]:
        path = self.market.config.parent / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def metrics(self) -> str:
        with self.market.http() as client:
            answer = client.get("/metrics")
        assert answer.status_code == 200
        return answer.text

    def settled(self) -> None:
        """Wait until log and traces have told of every receipt."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            named = {line.get("receipt") for line in self.lines}
            traced = b"".join(self.collector.bodies).decode(errors="replace")
            ids = {receipt["id"] for receipt in self.receipts}
            if ids <= named and all(id in traced for id in ids):
                return
            time.sleep(0.2)
        raise AssertionError("some receipt was never told of")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with collecting() as collector:
        settings = f'call_log = "calls.jsonl"\ntrace_endpoint = "{collector.url}"'
        with opened(folder, settings) as market:
            asyncio.run(_buy(market))
            watched = Watched(market, collector)
            watched.settled()
            yield watched


async def _buy(market: Market) -> None:
    """Pay for one call of each kind, leave one stream midway, and be refused."""
    async with market.payer() as payer:
        await payer.call(CHAT_ROUTE, ask(SECRET, stop=STOP))
        await payer.stream(CHAT_ROUTE, ask(SECRET, max_tokens=40), lambda _: None)
        # A prompt whose answer is long: there is something left to leave.
        body = ask("leave", max_tokens=1000, stream=True)
        async with payer._http.stream("POST", CHAT_ROUTE, json=body) as response:
            async for _ in response.aiter_bytes():
                break
    async with market.payer(scheme="exact") as payer:
        await payer.call(CLASSIFY_PATH, {"model": CLASSIFIER, "input": SECRET})
        await payer.stream(CHAT_ROUTE, ask(SECRET), lambda _: None)
    with market.http() as client:
        client.post(CHAT_ROUTE, json=ask(SECRET) | {"model": SECRET})
        client.post(CHAT_ROUTE, json=ask(SECRET), headers={"PAYMENT-SIGNATURE": "e30="})
    deadline = time.monotonic() + 30
    while len([e for e in market.log_entries() if e["kind"] == "receipt"]) < 5:
        assert time.monotonic() < deadline, "the stream that was left is not booked"
        await asyncio.sleep(0.2)


def sums(text: str) -> dict[tuple[str, str], float]:
    """Return the values of samples by name and model, other labels summed up."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, sample.labels.get("model", "")] += sample.value
    return found


def test_nobodys_words_keys_or_addresses_are_in_what_is_told(watched: Watched) -> None:
    folder = watched.market.config.parent
    told = {
        "metrics": watched.metrics(),
        "call log": (folder / "calls.jsonl").read_text(),
        "traces": b"".join(watched.collector.bodies).decode(errors="replace"),
        "stderr": (folder / "node.log").read_text(),
    }
    payers = {receipt["payment"]["payer"].lower() for receipt in watched.receipts}
    channels = {receipt["payment"]["channel"] for receipt in watched.receipts} - {"0x" + "0" * 64}
    assert payers
    assert channels
    keys = {Signer.anvil(n, chain_id=31337)._key.secret.hex() for n in range(10)}
    for where, text in told.items():
        assert SECRET not in text, where
        assert "xylophone" not in text, where
        assert STOP not in text, where
        for secret in payers | channels | keys:
            assert secret.removeprefix("0x") not in text.lower(), where


def test_metrics_are_told_to_this_machine_only(watched: Watched) -> None:
    with watched.market.http() as client:
        for name in ("X-Forwarded-For", "Forwarded", "Via"):
            refused = client.get("/metrics", headers={name: "for=203.0.113.9"})
            assert refused.status_code == 403
            assert "node.metrics_public" in refused.json()["error"]["message"]
        assert client.post("/metrics").status_code == 405


def test_the_sums_of_the_metrics_are_those_of_the_receipts(watched: Watched) -> None:
    found = sums(watched.metrics())
    for model in (CHAT, CLASSIFIER):
        receipts = [r for r in watched.receipts if r["model"]["name"] == model]
        assert receipts
        charged = sum(int(r["payment"]["charged"]) for r in receipts)
        assert found["weightproof_charged_atoms_total", model] == charged
        for way in ("input", "output"):
            tokens = sum(int(r["tokens"][way]) for r in receipts)
            assert found[f"weightproof_{way}_tokens_total", model] == tokens
        assert found["weightproof_call_seconds_count", model] == len(receipts)
    assert found["weightproof_log_entries", ""] == len(watched.market.log_entries())
    assert found["weightproof_channels", ""] == 1
    # Two streams of the channel; the exact one came in one piece.
    assert found["weightproof_time_to_first_token_seconds_count", CHAT] == 2
    assert found["weightproof_engine_running", CHAT] == 0


def test_calls_are_counted_by_how_they_ended(watched: Watched) -> None:
    counted = {
        (sample.labels["model"], sample.labels["scheme"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(watched.metrics())
        for sample in family.samples
        if sample.name == "weightproof_calls_total" and sample.labels["status"] != "unpaid"
    }
    assert counted == {
        (CHAT, "batch-settlement", "ok"): 2,
        (CHAT, "batch-settlement", "partial"): 1,
        (CHAT, "exact", "ok"): 1,
        (CLASSIFIER, "exact", "ok"): 1,
        # An unknown model; a header that cannot be read, which is read before the model is found.
        ("", "none", "refused"): 2,
    }


def test_each_receipt_has_one_line_and_one_span(watched: Watched) -> None:
    lines = {line["receipt"]: line for line in watched.lines if "receipt" in line}
    assert len(lines) == len(watched.receipts) == 5
    assert [line["code"] for line in watched.lines if line["status"] == "refused"] == [
        "model_not_found",
        "malformed_payment",
    ]
    spans = {
        attribute.value.string_value: (span, {a.key: a.value for a in span.attributes})
        for span in watched.collector.spans()
        for attribute in span.attributes
        if attribute.key == "weightproof.receipt.id"
    }
    assert spans.keys() == lines.keys()
    for receipt in watched.receipts:
        line, (span, told) = lines[receipt["id"]], spans[receipt["id"]]
        charged = str(receipt["payment"]["charged"])
        assert line["charged"] == told["weightproof.charged"].string_value == charged
        assert line["status"] == receipt["status"]
        assert line["output_tokens"] == int(receipt["tokens"]["output"])
        assert told["gen_ai.usage.output_tokens"].int_value == int(receipt["tokens"]["output"])
        assert span.end_time_unix_nano > span.start_time_unix_nano
    names = sorted(span.name for span, _ in spans.values())
    assert names == [f"chat {CHAT}"] * 4 + [f"classify {CLASSIFIER}"]


def test_a_node_that_does_not_answer_or_is_none_is_said(watched: Watched) -> None:
    here = ("top", "--once", "--config", watched.market.config)
    inside(*here, "--node", CLOSED).refuses(4, "does not answer", "is the node running")
    inside(*here, "--node", watched.market.devnet.rpc_url).refuses(4, "has no metrics")


def test_top_tells_of_every_model_as_json_and_as_a_table(watched: Watched) -> None:
    here = ("top", "--once", "--config", watched.market.config, "--node", watched.market.node.url)
    told = inside(*here, "--json").json
    assert told["status"] == "ok"
    rows = {row["model"]: row for row in told["models"]}
    assert rows.keys() == {CHAT, CLASSIFIER}
    assert rows[CHAT]["calls"] == {"ok": 3, "partial": 1}
    assert 0 < rows[CHAT]["ttft_p50_s"] <= rows[CHAT]["ttft_p95_s"]
    assert 0 < rows[CHAT]["inter_token_p50_s"] <= rows[CHAT]["inter_token_p95_s"]
    assert (rows[CLASSIFIER]["calls"], rows[CLASSIFIER]["ttft_p50_s"]) == ({"ok": 1}, None)
    assert (rows[CHAT]["state"], rows[CHAT]["device"]) == ("active", "cpu")
    shown = inside(*here)
    assert shown.code == 0
    for word in (CHAT, CLASSIFIER, "units/min", "first p50/p95", "ok"):
        assert word in shown.out


def test_the_live_view_ends_with_q_and_leaves_the_terminal_as_it_was(watched: Watched) -> None:
    here = ["--config", str(watched.market.config), "--node", watched.market.node.url]
    pid, terminal = pty.fork()
    if pid == 0:
        size = {"COLUMNS": "150", "LINES": "30", "TERM": "xterm"}
        command = [*COMMAND, "top", "--every", "0.2", *here]
        os.execve(command[0], command, environment(**size))
    shown, typed, deadline = b"", False, time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 1)
        try:
            piece = os.read(terminal, 65536) if ready else b""
        except OSError:  # how a terminal says that its program ended
            break
        shown += piece
        if not typed and shown.count(b"q ends") > 2:
            os.write(terminal, b"xq")
            typed = True
    assert typed, shown[-2000:]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert CHAT.encode() in shown
    assert shown.rstrip().endswith(b"\x1b[?1049l")  # the screen it found is back


def test_help_says_where_it_reads_and_shows_examples() -> None:
    taught = inside("top", "--help")
    assert taught.code == 0
    for word in ("weightproof top --once --json", "node.metrics_public", "--every"):
        assert word in " ".join(taught.out.split())


def test_a_node_told_not_to_has_no_metrics(tmp_path: Path) -> None:
    with shop_opened(tmp_path / "net", "metrics = false") as shop:
        with shop.http() as client:
            assert client.get("/metrics").status_code == 404
        here = ("top", "--once", "--config", shop.config, "--node", shop.url)
        inside(*here).refuses(4, "has no metrics", "node.metrics")


def test_a_public_node_tells_everybody_and_a_hostile_name_is_one_label(tmp_path: Path) -> None:
    name = 'x"} 9 \\n {model="y'
    with shop_opened(tmp_path / "net", "metrics_public = true") as shop:
        model = shop.publish(tiny_models.llama(shop.config.parent / "small"))
        shop.place(name, model)
        shop.call(ask("hi") | {"model": name})
        headers = {"X-Forwarded-For": "203.0.113.9"}
        with shop.http() as client:
            found = sums(client.get("/metrics", headers=headers).text)
        (receipt,) = shop.receipts()
        charged = int(receipt["payment"]["charged"])
        assert found["weightproof_charged_atoms_total", name] == charged > 0
        assert not [model for _, model in found if model not in ("", name)]
        told = inside("top", "--json", "--config", shop.config, "--node", shop.url).json
        assert [row["model"] for row in told["models"]] == [name]


def test_a_call_log_that_cannot_be_written_is_told_before_models_load(
    watched: Watched, tmp_path: Path
) -> None:
    text = watched.market.config.read_text().replace('"calls.jsonl"', '"no/such/folder/log"')
    path = tmp_path / "weightproof.toml"
    path.write_text(text)
    ran = weightproof("serve", "--port", "0", "--config", path)
    ran.refuses(2, "node.call_log", "No such file or directory")
