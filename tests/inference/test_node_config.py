"""The node's part of the settings file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.answers_config import AnswersConfig
from inference.claiming import ClaimPolicy
from inference.config import NodeConfig, load, node_url
from inference.observer_config import ObserverConfig
from inference.payments.pricing import Price
from registry.devnet_file import add_model
from registry.errors import ConfigError
from tests.registry.test_config import PUBLISHER, TEXT

MODEL = f"""
[[models]]
name = "small"
id = "0x{"ab" * 32}"
folder = "weights"
[models.price]
per_call = 100
output_per_million = 5
"""
# Adds lines below [node], and models after it, and reads the settings.
Read = Callable[..., NodeConfig]


@pytest.fixture(autouse=True)
def _without_the_callers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEIGHTPROOF_RPC_URL", "WEIGHTPROOF_NODE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(node: str = "", models: str = MODEL) -> NodeConfig:
        path = tmp_path / "weightproof.toml"
        path.write_text(f"{TEXT}\n[node]\n{node}\n{models}")
        return load(path)

    return read


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("prot = 1", "unknown setting node.prot"),
        ("memory_budget_bytes = -1", "node.memory_budget_bytes must be an integer from 0"),
        ("unload_when_full = 1", "node.unload_when_full must be true or false"),
        ('operator = "me"', "node.operator: 'me' is not an address"),
        ("port = 65536", "node.port must be an integer from 0 to 65535"),
        ('port = "8402"', "node.port must be a whole number"),
        ("host = 1", "node.host must be text in quotes"),
        ("withdraw_delay_s = 899", "node.withdraw_delay_s must be an integer from 900"),
        ("wallet_gas = -1", "node.wallet_gas must be an integer from 0"),
        ('wallet_factories = ["0x12"]', "node.wallet_factories: '0x12' is not an address"),
        (f'wallet_factories = ["{PUBLISHER}"]', "which holds money"),
        ('engine = "vllm"', "node.engine is 'vllm', not one of weightproof, transformers"),
        ("engine = 1", "node.engine must be text in quotes"),
        ("[node.answers]\nkeep = 1", "unknown setting node.answers.keep"),
        ("[node.answers]\nkeep_s = -1", "node.answers.keep_s must be an integer from 0"),
        ("[node.answers]\npayer_bytes = 0", "node.answers.payer_bytes must be an integer from 1"),
        ("[node.answers]\nkeep_s = 0\nrequired = true", "keep_s 0 keeps nothing"),
        ("max_queue = 0", "node.max_queue must be an integer from 1"),
        ("revocation_poll_s = 61", "node.revocation_poll_s must be an integer from 1 to 60"),
        ('receiver = "vitalik.eth"', "node.receiver: 'vitalik.eth' is not an address"),
        (f'receiver = "{PUBLISHER[:-1]}9"', "node.receiver"),
        ('asset = {address = "0x12"}', "node.asset.address: '0x12' is not an address"),
        ("asset = {symbol = 1}", "unknown setting node.asset.symbol"),
        ("asset = 1", "node.asset must be a table"),
        ("metrics = 1", "node.metrics must be true or false"),
        ("metrics_public = 1", "node.metrics_public must be true or false"),
        ("call_log = 1", "node.call_log must be text in quotes"),
        ('trace_endpoint = "localhost:4318"', "node.trace_endpoint must be an http://"),
        ('trace_endpoint = "http://"', "node.trace_endpoint must be an http://"),
        ('trace_endpoint = "http://x:99999"', "node.trace_endpoint must be an http://"),
        ('trace_endpoint = "http://[::1"', "node.trace_endpoint must be an http://"),
        ('trace_endpoint = "http://x y"', "node.trace_endpoint must be an http://"),
        ('trace_endpoint = "http://me:word@x"', "node.trace_endpoint must be an address without"),
        ('trace_endpoint = "http://x/?key=1"', "node.trace_endpoint must be an address without"),
        ('origin = "my node"', "node.origin: 'my node' is not an origin"),
        ('origin = ""', "node.origin"),
    ],
)
def test_a_wrong_setting_of_the_node_is_refused_by_its_name(
    read: Read, line: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refusal:
        read(line)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[models]]", "[models]", "models must be a list of tables"),
        ('name = "small"\n', "", "setting models[0].name is missing"),
        ("ab", "", "models.id must be 0x and 64 hexadecimal digits"),
        ("ab", "…", "models.id must be 0x and 64 hexadecimal digits"),
        ("per_call", "per_cal", "unknown setting models[0].price.per_cal"),
        ("per_call = 100", "per_call = 0.01", "models[0].price.per_call must be a whole number"),
        ("per_call = 100", "per_call = -1", "models[0].price.per_call must be an integer from 0"),
        ("per_call = 100\noutput_per_million = 5", "", "a price of 0 cannot be paid"),
        ("folder", "folders", "unknown setting models[0].folders"),
        ("output_per_million = 5", "exact = 7", "models[0].price.exact must be a table"),
        ("output_per_million = 5", "exact = {}", "a price of 0 cannot be paid"),
        ("output_per_million = 5", "exact = {per_call = 1, a = 1}", "models[0].price.exact.a"),
        ("[[models]]", "[nodes]\n[[models]]", "unknown setting nodes"),
    ],
)
def test_a_wrong_setting_of_a_model_is_refused_by_its_name(
    read: Read, old: str, new: str, message: str
) -> None:
    assert old in MODEL
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(models=MODEL.replace(old, new, 1))


def test_exact_answers_may_have_a_price_of_their_own(read: Read) -> None:
    (plain,) = read().models
    assert plain.exact_price is None
    (tiered,) = read(models=f"{MODEL}[models.price.exact]\nper_call = 7\n").models
    assert tiered.price == plain.price
    assert tiered.exact_price == Price(per_call=7, input_per_million=0, output_per_million=0)


def test_a_list_that_holds_no_tables_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weightproof.toml"
    path.write_text(f"models = [1]\n{TEXT}")
    with pytest.raises(ConfigError, match="models must be a list of tables") as refusal:
        load(path)
    assert "[[models]]" in refusal.value.hint


def test_two_models_of_one_name_are_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match="two models have the same name"):
        read(models=MODEL + MODEL)


def test_a_wrong_setting_of_the_registry_is_refused_for_the_node_too(tmp_path: Path) -> None:
    path = tmp_path / "weightproof.toml"
    path.write_text(TEXT.replace("[policy]", "[polcy]"))
    with pytest.raises(ConfigError, match="unknown setting polcy"):
        load(path)


def test_what_is_written_is_what_is_meant(read: Read, tmp_path: Path) -> None:
    config = read(
        f'port = 9000\nreceiver = "{PUBLISHER.lower()}"\noperator = "{PUBLISHER.lower()}"\n'
        'memory_budget_bytes = 1000\nunload_when_full = true\nengine = "transformers"'
    )
    (model,) = config.models
    assert (model.name, model.model_id) == ("small", b"\xab" * 32)
    assert model.folder == tmp_path / "weights"
    assert model.price == Price(per_call=100, input_per_million=0, output_per_million=5)
    assert config.public_url == "http://127.0.0.1:9000"
    assert config.database_url == f"sqlite:///{tmp_path}/.weightproof/node.sqlite"
    # In lower case it is the same receiver; contracts answer in checksum form.
    assert config.receiver == PUBLISHER
    assert config.operator == PUBLISHER
    assert (config.memory_budget_bytes, config.unload_when_full) == (1000, True)
    assert config.engine == "transformers"


def test_without_a_section_of_its_own_the_node_has_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "weightproof.toml"
    path.write_text(TEXT)
    config = load(path)
    assert (config.host, config.port, config.receiver, config.models) == ("127.0.0.1", 8402, "", ())
    assert (config.memory_budget_bytes, config.unload_when_full, config.operator) == (0, False, "")
    assert config.engine == "weightproof"
    assert config.observer == ObserverConfig(True, False, "", "")


def test_what_watches_the_node_is_found_from_the_settings(read: Read, tmp_path: Path) -> None:
    lines = 'metrics = false\nmetrics_public = true\ncall_log = "logs/calls.jsonl"\n'
    config = read(lines + 'trace_endpoint = "http://127.0.0.1:4318/"')
    assert config.observer == ObserverConfig(
        False, True, "http://127.0.0.1:4318/v1/traces", str(tmp_path / "logs/calls.jsonl")
    )
    config = read('call_log = "-"\ntrace_endpoint = "https://traces.test/otlp/v1/traces"')
    assert config.observer.call_log == "-"
    assert config.observer.trace_endpoint == "https://traces.test/otlp/v1/traces"


def test_the_environment_goes_before_the_file(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_url(read()) == "http://127.0.0.1:8402"
    monkeypatch.setenv("WEIGHTPROOF_NODE_URL", "https://node.test")
    monkeypatch.setenv("DATABASE_URL", "sqlite:////tmp/other.sqlite")
    config = read()
    assert node_url(config) == "https://node.test"
    assert config.database_url == "sqlite:////tmp/other.sqlite"


def test_a_model_that_is_added_is_read_back_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "weightproof.toml"
    path.write_text(TEXT)
    names = ["plain", 'a "quoted" one', "back\\slash", "über"]
    for number, name in enumerate(names):
        add_model(path, name, bytes([number]) * 32, {"per_call": 1 + number})
    found = load(path).models
    assert [model.name for model in found] == names
    assert [model.price.per_call for model in found] == [1, 2, 3, 4]


def test_answers_are_kept_for_a_day_unless_the_settings_say_otherwise(read: Read) -> None:
    assert read().answers == AnswersConfig(86400, 64 * 1024**2, 1024**3, required=False)
    text = "[node.answers]\nkeep_s = 60\npayer_bytes = 1\ntotal_bytes = 2\nrequired = true"
    assert read(text).answers == AnswersConfig(60, 1, 2, required=True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("claims = {profit = 0}", "node.claims.profit must be an integer from 1"),
        ("claims = {coin_price = -1}", "node.claims.coin_price must be an integer from 0"),
        ("claims = {max_age_s = 59}", "node.claims.max_age_s must be an integer from 60"),
        ("claims = {gas_percent = 101}", "node.claims.gas_percent must be an integer from 1"),
        ("claims = {dust = 1}", "unknown setting node.claims.dust"),
        ("withdrawal_look_s = 301", "node.withdrawal_look_s must be an integer from 1 to 300"),
    ],
)
def test_a_wrong_setting_of_claims_is_refused_by_its_name(
    read: Read, lines: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(lines)


def test_claims_are_made_by_the_settings(read: Read) -> None:
    assert read().claims == ClaimPolicy()
    made = read("claims = {profit = 3, coin_price = 2000000000, max_age_s = 60, gas_percent = 50}")
    assert made.claims == ClaimPolicy(3, 2_000_000_000, 0, 60, 50)
