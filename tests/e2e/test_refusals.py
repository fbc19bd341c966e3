"""What a node refuses: a clear error each time, nothing charged, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.demo.node_process import NodeProcess
from inference.errors import UnavailableError
from registry.errors import KeyRefusedError
from registry.signing.signer import Signer
from tests.e2e.market import CHAT_PATH, CLASSIFIER, CLASSIFY_PATH, Market, ask, header, opened
from tests.e2e.payments import exact, offer

SIGNATURE = "invalid_exact_evm_payload_signature"


def receipts(market: Market) -> int:
    return sum(entry["kind"] == "receipt" for entry in market.log_entries())


def test_an_unknown_model_is_a_404_in_openais_shape(market: Market) -> None:
    with market.http() as client:
        answer = client.post(CHAT_PATH, json=ask() | {"model": "gpt-9"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert "gpt-9" in error["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"logit_bias": {}}, "logit_bias"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": 1e-40}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"n": 9}, "n"),
    ],
)
def test_a_wrong_or_unknown_field_is_a_400_that_names_it(
    market: Market, change: dict[str, object], param: str
) -> None:
    with market.http() as client:
        answer = client.post(CHAT_PATH, json=ask() | change)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"model": NaN}',
        b"\xff",
        b"[" * 100_000,
        b'{"model": "tiny-llama", "messages": [], "temperature": 1e99999999999999999999}',
        b'{"model": "tiny-llama", "messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
def test_a_body_that_is_not_json_is_a_400(market: Market, body: bytes) -> None:
    with market.http() as client:
        assert client.post(CHAT_PATH, content=body).status_code == 400


def test_a_body_over_the_limit_is_a_413(market: Market) -> None:
    with market.http() as client:
        assert client.post(CHAT_PATH, content=b" " * (1024 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize("value", ["not base64!", "e30=", "", "bnVsbA=="])
def test_a_malformed_payment_header_is_a_400(market: Market, value: str) -> None:
    with market.http() as client:
        answer = client.post(CHAT_PATH, json=ask(), headers={"PAYMENT-SIGNATURE": value})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "malformed_payment"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"from": "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"}, SIGNATURE),
        ({"to": "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"},
         "invalid_exact_evm_payload_recipient_mismatch"),
        ({"value": "1"}, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"validBefore": "1"}, "invalid_exact_evm_payload_authorization_valid_before"),
        ({"validAfter": str(2**40)}, "invalid_exact_evm_payload_authorization_valid_after"),
    ],
)  # fmt: skip
def test_a_payment_that_does_not_hold_is_a_402_with_x402s_code(
    market: Market, changes: dict[str, str], code: str
) -> None:
    before = receipts(market)
    body = {"model": CLASSIFIER, "input": "fine"}
    accepted = offer(market, body, CLASSIFY_PATH, "exact")
    payment = exact(accepted, market.workspace.signer("payer"), **changes)
    with market.http() as client:
        answer = client.post(CLASSIFY_PATH, json=body, headers=payment)
    assert answer.status_code == 402
    assert header(answer, "PAYMENT-REQUIRED")["error"] == code
    assert "PAYMENT-RESPONSE" not in answer.headers
    assert receipts(market) == before


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/log/entries?start=99999999999999999998&end=99999999999999999999", 400),
        ("/v1/log/entries?start=a&end=b", 400),
        ("/v1/log/proof/inclusion?seq=10&size=5", 400),
        ("/v1/receipts/none", 404),
        ("/v1/channels/0x00", 404),
        ("/v1/nothing", 404),
    ],
)
def test_a_question_without_an_answer_is_told_so_in_the_same_shape(
    market: Market, path: str, status: int
) -> None:
    with market.http() as client:
        answer = client.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_a_second_node_on_the_same_database_is_refused(market: Market, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="another node serves"):
        NodeProcess.start(market.config, log=tmp_path / "second.log")


def test_another_network_is_refused(market: Market) -> None:
    body = {"model": CLASSIFIER, "input": "fine"}
    accepted = offer(market, body, CLASSIFY_PATH, "exact") | {"network": "eip155:8453"}
    payment = exact(accepted, market.workspace.signer("payer"))
    with market.http() as client:
        answer = client.post(CLASSIFY_PATH, json=body, headers=payment)
    assert header(answer, "PAYMENT-REQUIRED")["error"] == "network_mismatch"


def test_too_small_an_offer_is_refused(market: Market) -> None:
    body = {"model": CLASSIFIER, "input": "fine"}
    accepted = offer(market, body, CLASSIFY_PATH, "exact") | {"amount": "1"}
    payment = exact(accepted, market.workspace.signer("payer"))
    with market.http() as client:
        assert client.post(CLASSIFY_PATH, json=body, headers=payment).status_code == 402


def test_a_wallet_without_money_is_refused_before_any_work(market: Market) -> None:
    body = {"model": CLASSIFIER, "input": "fine"}
    payment = exact(offer(market, body, CLASSIFY_PATH, "exact"), Signer.random())
    with market.http() as client:
        answer = client.post(CLASSIFY_PATH, json=body, headers=payment)
    code = header(answer, "PAYMENT-REQUIRED")["error"]
    assert code == "invalid_exact_evm_insufficient_balance"


def test_an_exact_payment_that_comes_twice_is_served_once(market: Market) -> None:
    body = {"model": CLASSIFIER, "input": "fine"}
    accepted = offer(market, body, CLASSIFY_PATH, "exact")
    payment = exact(accepted, market.workspace.signer("payer"))
    with market.http() as client:
        first = client.post(CLASSIFY_PATH, json=body, headers=payment)
        again = client.post(CLASSIFY_PATH, json=body, headers=payment)
    assert first.status_code == 200
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "invalid_exact_evm_nonce_already_used"
    told, paid = header(again, "PAYMENT-RESPONSE"), header(first, "PAYMENT-RESPONSE")
    assert told["transaction"] == paid["transaction"]
    with market.http() as client:
        other = client.post(CLASSIFY_PATH, json=body | {"input": "other"}, headers=payment)
    assert other.status_code == 402
    assert header(other, "PAYMENT-REQUIRED")["error"] == "invalid_exact_evm_nonce_already_used"


def test_an_unpaid_call_is_told_what_it_costs_and_is_not_stored_by_caches(market: Market) -> None:
    with market.http() as client:
        answer = client.post(CHAT_PATH, json=ask())
    assert answer.status_code == 402
    assert answer.headers["cache-control"] == "no-store"
    demanded = header(answer, "PAYMENT-REQUIRED")
    assert [entry["scheme"] for entry in demanded["accepts"]] == ["batch-settlement", "exact"]
    assert "error" not in demanded


def test_a_node_refuses_the_database_of_another_chain(tmp_path: Path, market: Market) -> None:
    settings = market.config.read_text()
    other = tmp_path / "weightproof.toml"
    store, database = market.config.parent / ".weightproof", tmp_path / "node.sqlite"
    text = settings.replace('".weightproof/blocks"', f'"{store / "blocks"}"')
    other.write_text(
        text.replace('".weightproof/node.sqlite"', f'"{database}"').replace(
            'node = "anvil:3"', 'node = "anvil:5"'
        )
    )
    with NodeProcess.start(other, log=tmp_path / "first.log"):
        pass
    other.write_text(other.read_text().replace('node = "anvil:5"', 'node = "anvil:6"'))
    with pytest.raises(UnavailableError, match="this database belongs to node"):
        NodeProcess.start(other, log=tmp_path / "second.log")


@pytest.mark.parametrize("chain_id", [1, 8453, 31338])
def test_anvils_published_keys_are_refused_off_the_devnet(chain_id: int) -> None:
    with pytest.raises(KeyRefusedError, match="published keys"):
        Signer.anvil(3, chain_id=chain_id)


def test_without_the_chain_nothing_is_sold(tmp_path: Path) -> None:
    with opened(tmp_path, "chain_grace_s = 1") as market:
        body = {"model": CLASSIFIER, "input": "fine"}
        payment = exact(
            offer(market, body, CLASSIFY_PATH, "exact"), market.workspace.signer("payer")
        )
        before = receipts(market)
        market.devnet.stop()
        with market.http() as client:
            answer = client.post(CLASSIFY_PATH, json=body, headers=payment)
            assert answer.status_code == 503
            assert "nothing was charged" in answer.json()["error"]["message"]
            assert "retry-after" in answer.headers
        assert receipts(market) == before
