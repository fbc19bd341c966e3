"""`weightproof models` and `serve --empty`, as an operator has them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.devnet_file import add_model
from registry.signing.signer import Signer
from tests.e2e.market import PRICE, Market
from tests.e2e.shop import Shop, opened
from tests.e2e.test_command_line import COMMAND, Ran, environment, inside, weightproof
from tests.inference import tiny_models


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def model(shop: Shop) -> str:
    """A model that the settings name too, with its price."""
    model_id = shop.publish(tiny_models.llama(shop.config.parent / "small"))
    add_model(shop.config, "small", model_id, PRICE)
    with shop.config.open("a") as settings:
        settings.write("[models.price.exact]\nper_call = 9\n")
    return "0x" + model_id.hex()


def models(shop: Shop, *arguments: object, config: Path | None = None) -> Ran:
    return inside("models", *arguments, "--config", config or shop.config, "--node", shop.url)


def listed(shop: Shop) -> dict[str, Any]:
    return models(shop, "list", "--json").json


def keys(shop: Shop, folder: Path, **roles: str) -> Path:
    """Return a copy of the settings with other keys."""
    path = folder / "weightproof.toml"
    text = shop.config.read_text()
    for role, line in roles.items():
        text = text.replace(
            'node = "anvil:3"', line if role == "node" else f'{line}\nnode = "anvil:3"'
        )
    path.write_text(text)
    return path


def test_a_node_without_models_is_refused_unless_it_is_asked_for(
    market: Market, tmp_path: Path
) -> None:
    text = market.config.read_text()
    path = tmp_path / "weightproof.toml"
    path.write_text(text[: text.index("[[models]]")])
    ran = weightproof("serve", "--port", "0", "--json", "--config", path)
    ran.refuses(2, "no model is named", "serve --empty")


def test_the_wrong_key_is_refused(shop: Shop, model: str, tmp_path: Path) -> None:
    path = keys(shop, tmp_path, operator='operator = "anvil:7"')
    models(shop, "list", config=path).refuses(2, "not a command of the node's operator")
    models(shop, "unload", "small", config=path).refuses(2, "not a command")


def test_another_node_than_meant_is_refused(shop: Shop, model: str, tmp_path: Path) -> None:
    stranger = Signer.random().address
    models(shop, "list", "--address", stranger).refuses(2, "the node is", "--address")
    models(shop, "list", "--address", "0x12").refuses(2, "--address")
    path = keys(shop, tmp_path, node='operator = "anvil:3"')
    models(shop, "list", config=path).refuses(2, "which node this is", "--address")
    found = models(shop, "list", "--address", shop.address, "--json", config=path).json
    assert found["models"] == []


def test_a_node_that_does_not_answer_is_exit_4(shop: Shop, model: str) -> None:
    here = ("--config", shop.config, "--node", "http://127.0.0.1:1")
    inside("models", "list", *here).refuses(4, "does not answer")
    inside("models", "load", "small", *here).refuses(4, "does not answer")


def test_what_cannot_be_loaded_is_refused_in_one_sentence(shop: Shop, model: str) -> None:
    models(shop, "load", "other").refuses(2, "no price for 'other'", "--per-call")
    models(shop, "load", "other", "--per-call", 1).refuses(2, "no model 'other' in the settings")
    models(shop, "load", "x", "0x" + "0" * 64, "--per-call", 1).refuses(3, "there is no record")
    models(shop, "load", "x", "nobody/none", "--per-call", 1).refuses(2, "'nobody' is not an")
    models(shop, "load", "x", f"{shop.address}/none", "--per-call", 1).refuses(3, "names no record")
    models(shop, "load", "small", "--folder", "here").refuses(2, "not an absolute path")
    models(shop, "load", "small", "--folder", "/nowhere").refuses(3, "/nowhere")
    models(shop, "load", "0x12", model, "--per-call", 1).refuses(2, "cannot begin with 0x")
    models(shop, "unload", "small").refuses(2, "no model 'small' here")
    assert listed(shop)["models"] == []


def test_a_model_is_loaded_listed_swapped_and_unloaded(shop: Shop, model: str) -> None:
    loaded = models(shop, "load", "small", "--json").json
    assert (loaded["name"], loaded["model_id"], loaded["replaced"]) == ("small", model, "")
    (row,) = listed(shop)["models"]
    assert row["state"] == "on sale"
    assert row["price"] == PRICE
    assert row["exact_price"] == {"per_call": 9, "input_per_million": 0, "output_per_million": 0}
    assert (row["leases"], row["paid_at"]) == (0, 0)
    assert listed(shop)["used_bytes"] == row["memory_bytes"] == loaded["memory"]
    shown = models(shop, "list")
    assert shown.code == 0
    assert "on sale · chat" in shown.out
    assert "never paid" in shown.out
    # Another price, by the publisher's own word for the model.
    name = f"{shop.workspace.signer('publisher').address}/small"
    publisher = shop.workspace.signer("publisher")
    inside("register", "model", shop.config.parent / "small", "--name", "small", "--config",
           shop.config, "--json")  # fmt: skip
    assert shop.workspace.records.resolve(publisher.address, "small") is not None
    swapped = models(shop, "load", "small", name, "--per-call", 7, "--json").json
    assert swapped["replaced"] == model
    (row,) = listed(shop)["models"]
    assert row["price"] == {"per_call": 7, "input_per_million": 0, "output_per_million": 0}
    assert row["exact_price"] == row["price"]
    assert models(shop, "unload", "small", "--json").json["leases"] == 0
    assert listed(shop)["models"] == []


def test_the_key_of_role_operator_goes_before_the_nodes(tmp_path: Path) -> None:
    operator = Signer.anvil(7, chain_id=31337).address
    with opened(tmp_path / "net", f'operator = "{operator}"') as shop:
        models(shop, "list").refuses(2, "not a command of the node's operator")
        path = keys(shop, tmp_path, operator='operator = "anvil:7"')
        assert models(shop, "list", "--json", config=path).json["models"] == []


def test_help_says_what_a_restart_reads_and_shows_examples() -> None:
    for command in ("list", "load", "unload"):
        taught = inside("models", command, "--help")
        assert taught.code == 0
        assert f"weightproof models {command}" in taught.out
        assert "--json" in taught.out
    for command in ("load", "unload"):
        assert "restart" in " ".join(inside("models", command, "--help").out.split())


def test_an_empty_node_starts_and_sells_what_is_loaded_into_it(
    market: Market, tmp_path: Path
) -> None:
    text = market.config.read_text().replace("node.sqlite", "empty.sqlite")
    text = text.replace('".weightproof/', f'"{market.config.parent}/.weightproof/')
    path = tmp_path / "weightproof.toml"
    path.write_text(text[: text.index("[[models]]")])
    with subprocess.Popen(
        [*COMMAND, "serve", "--empty", "--port", "0", "--json", "--config", str(path)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            ready = json.loads(process.stdout.readline())
            assert ready["models"] == []
            model = "0x" + market.models["tiny-llama"].hex()
            here = ("--config", path, "--node", ready["url"], "--json")
            loaded = inside("models", "load", "late", model, "--per-call", 9, *here).json
            assert loaded["model_id"] == model
            (row,) = inside("models", "list", *here).json["models"]
            assert (row["name"], row["state"]) == ("late", "on sale")
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0
