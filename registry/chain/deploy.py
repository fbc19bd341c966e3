"""Our contracts on a chain: put there, and where they are.

On the devnet the payment contracts are placed at the addresses that every official x402 client has
built in; on chains that carry the audited originals there, those are used.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Final

from eth_utils.address import is_checksum_address

from registry.chain.connection import Chain
from registry.chain.dev_usd import ONE
from registry.chain.devnet import set_code
from registry.errors import ChainMismatchError, ConfigError, TransactionFailedError
from registry.signing.canonical import JsonObject
from registry.signing.signer import ANVIL_CHAIN_ID, Signer

# x402 batch-settlement: hard-coded in the clients as verifyingContract and deposit target.
CANONICAL_CHANNELS: Final = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
CANONICAL_COLLECTOR: Final = "0x4020806089470a89826cB9fB1f4059150b550004"
# What asking a node to answer on chain costs when it can: more than the gas of the answer.
CHALLENGE_STAKE: Final = 5 * ONE
# What a deployment may lack.
_OPTIONAL: Final = frozenset({"node_registry", "receipt_verifier", "dev_usd", "from_block"})


@dataclass(frozen=True)
class Deployment:
    """Where the contracts of one chain are. `dev_usd` exists on the devnet only.

    `node_registry` is None where nodes put up no bonds; `receipt_verifier` where it was deployed
    before there was one, and nothing here needs it. `from_block` is where the search for their
    events may begin.
    """

    chain_id: int
    model_registry: str
    attestations: str
    audit_anchor: str
    payment_channels: str
    deposit_collector: str
    node_registry: str | None = None
    dev_usd: str | None = None
    from_block: int = 0
    receipt_verifier: str | None = None

    def to_json(self) -> JsonObject:
        """Return it as a JSON object; what does not exist is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, value: object) -> Deployment:
        """Read what `to_json` wrote. Raises `ConfigError` naming the field at fault."""
        if not isinstance(value, dict):
            raise ConfigError("a deployment is a JSON object")
        known = {field.name for field in fields(cls)}
        for name in value.keys() - known:
            raise ConfigError(f"a deployment has no field {name!r:.60}")
        for name in known - value.keys() - _OPTIONAL:
            raise ConfigError(f"the deployment lacks {name}", hint="deploy the contracts again")
        for name, item in value.items():
            if name in ("chain_id", "from_block"):
                valid = isinstance(item, int) and not isinstance(item, bool) and item >= 0
            else:
                valid = isinstance(item, str) and is_checksum_address(item)
            if not valid:
                raise ConfigError(f"{name} of the deployment is wrong: {item!r:.60}")
        return cls(**value)


def deploy(
    chain: Chain,
    signer: Signer,
    *,
    bond_token: str | None = None,
    challenge_stake: int = CHALLENGE_STAKE,
) -> Deployment:
    """Deploy every contract and return where they are. `signer` pays the gas.

    Bonds and stakes are of `bond_token`, on a devnet of its own token; without one there is no
    NodeRegistry.
    """
    from_block = chain.head().number
    registry = _create(chain, signer, "ModelRegistry")
    devnet = chain.chain_id == ANVIL_CHAIN_ID
    channels, collector = (_place if devnet else _settle_on)(chain, signer)
    anchors = _create(chain, signer, "AuditAnchor")
    dev_usd = _create(chain, signer, "DevUSD") if devnet else None
    token = bond_token or dev_usd
    bonds = (token, anchors, challenge_stake)
    return Deployment(
        chain_id=chain.chain_id,
        model_registry=registry,
        attestations=_create(chain, signer, "Attestations", registry),
        audit_anchor=anchors,
        payment_channels=channels,
        deposit_collector=collector,
        node_registry=_create(chain, signer, "NodeRegistry", *bonds) if token else None,
        dev_usd=dev_usd,
        from_block=from_block,
        receipt_verifier=_create(chain, signer, "ReceiptVerifier", anchors),
    )


def check(chain: Chain, deployment: Deployment) -> None:
    """Raise `ChainMismatchError` unless `deployment` is of this chain and its contracts exist."""
    if deployment.chain_id != chain.chain_id:
        raise ChainMismatchError(
            f"the deployment is of chain {deployment.chain_id}, "
            f"the endpoint {chain.host} serves {chain.chain_id}",
            hint="use the deployment file of the chain you talk to",
        )
    chain.contract("ModelRegistry", deployment.model_registry)
    chain.contract("Attestations", deployment.attestations)
    chain.contract("AuditAnchor", deployment.audit_anchor)
    chain.contract("PaymentChannels", deployment.payment_channels)
    if deployment.node_registry is not None:
        chain.contract("NodeRegistry", deployment.node_registry)
    if deployment.receipt_verifier is not None:
        chain.contract("ReceiptVerifier", deployment.receipt_verifier)


def _create(chain: Chain, signer: Signer, name: str, *arguments: object) -> str:
    receipt = chain.send(signer, chain.constructor(name, *arguments))
    if receipt.contract is None:
        raise TransactionFailedError(f"{receipt.text} did not create a {name} contract")
    return receipt.contract


def _place(chain: Chain, signer: Signer) -> tuple[str, str]:
    # Our contracts keep nothing that a constructor stores, so their runtime code can be moved.
    channels = _create(chain, signer, "PaymentChannels")
    set_code(chain, CANONICAL_CHANNELS, chain.code(channels))
    collector = _create(chain, signer, "ERC3009DepositCollector", CANONICAL_CHANNELS)
    set_code(chain, CANONICAL_COLLECTOR, chain.code(collector))
    return CANONICAL_CHANNELS, CANONICAL_COLLECTOR


def _settle_on(chain: Chain, signer: Signer) -> tuple[str, str]:
    if chain.code(CANONICAL_CHANNELS) and chain.code(CANONICAL_COLLECTOR):
        return CANONICAL_CHANNELS, CANONICAL_COLLECTOR
    channels = _create(chain, signer, "PaymentChannels")
    return channels, _create(chain, signer, "ERC3009DepositCollector", channels)
