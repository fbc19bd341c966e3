from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.chain.artifact import load
from registry.chain.connection import Chain
from registry.chain.deploy import (
    CANONICAL_CHANNELS,
    CANONICAL_COLLECTOR,
    Deployment,
    check,
)
from registry.errors import ChainMismatchError, ConfigError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "x402_vectors.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": "31337"},
        {"chain_id": True},
        {"chain_id": -1},
        {"model_registry": None},
        {"model_registry": 7},
        {"model_registry": "0x5fbdb2315678afecb367f032d93f642f64180aa3"},
        {"payment_channels": "0x12"},
        {"surprise": CANONICAL_CHANNELS},
        {"from_block": "0"},
    ],
)
def test_a_deployment_that_is_not_exact_is_refused(
    deployment: Deployment, change: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        Deployment.from_json({**deployment.to_json(), **change})


def test_a_deployment_that_lacks_an_address_is_refused(deployment: Deployment) -> None:
    value = deployment.to_json()
    del value["audit_anchor"]
    with pytest.raises(ConfigError, match="audit_anchor"):
        Deployment.from_json(value)
    with pytest.raises(ConfigError, match="object"):
        Deployment.from_json([])


def test_a_deployment_of_another_chain_is_refused(chain: Chain, deployment: Deployment) -> None:
    other = Deployment.from_json({**deployment.to_json(), "chain_id": 1})
    with pytest.raises(ChainMismatchError, match="of chain 1"):
        check(chain, other)


def test_a_deployment_without_code_at_an_address_is_refused(
    chain: Chain, deployment: Deployment
) -> None:
    nobody = "0x000000000000000000000000000000000000dEaD"
    other = Deployment.from_json({**deployment.to_json(), "audit_anchor": nobody})
    with pytest.raises(ChainMismatchError, match="no AuditAnchor contract"):
        check(chain, other)


def test_a_deployment_survives_being_written_down(deployment: Deployment) -> None:
    written = json.dumps(deployment.to_json())
    assert Deployment.from_json(json.loads(written)) == deployment
    without = Deployment.from_json(
        {key: value for key, value in deployment.to_json().items() if key != "dev_usd"}
    )
    assert without.dev_usd is None
    assert "dev_usd" not in without.to_json()


def test_everything_is_where_the_deployment_says(chain: Chain, deployment: Deployment) -> None:
    check(chain, deployment)
    assert chain.code(deployment.dev_usd)
    attestations = chain.contract("Attestations", deployment.attestations)
    assert chain.call(attestations.functions.registry()) == deployment.model_registry


def test_the_payment_contracts_stand_where_official_clients_look(
    chain: Chain, deployment: Deployment
) -> None:
    assert deployment.payment_channels == CANONICAL_CHANNELS
    assert deployment.deposit_collector == CANONICAL_COLLECTOR
    channels = chain.contract("PaymentChannels", CANONICAL_CHANNELS)
    config = VECTORS["channelConfig"]
    values = (
        config["payer"],
        config["payerAuthorizer"],
        config["receiver"],
        config["receiverAuthorizer"],
        config["token"],
        config["withdrawDelay"],
        bytes.fromhex(config["salt"][2:]),
    )
    channel_id = chain.call(channels.functions.getChannelId(values))
    assert f"0x{channel_id.hex()}" == VECTORS["channelId"]


def test_deployed_code_is_the_committed_artifact(chain: Chain, deployment: Deployment) -> None:
    # The channels contract keeps nothing in its code that the constructor set.
    assert len(chain.code(CANONICAL_CHANNELS)) == len(load("PaymentChannels").deployed_bytecode)
