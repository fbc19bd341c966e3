"""The bytes of a contract call: arguments in, outputs back as plain Python values."""

from __future__ import annotations

from typing import Any, TypeAlias

from eth_abi.exceptions import DecodingError, InsufficientDataBytes
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.contract.contract import ContractConstructor, ContractFunction

from registry.chain.artifact import AbiItem, abi_type
from registry.errors import ChainMismatchError

# A function of a contract with its arguments, to be asked or sent.
Function: TypeAlias = ContractFunction
# With all of these given, web3 encodes without asking the chain anything.
_FILLED: Any = {
    "nonce": 0,
    "gas": 0,
    "maxFeePerGas": 0,
    "maxPriorityFeePerGas": 0,
    "chainId": 0,
    "value": 0,
}


def encode(action: ContractFunction | ContractConstructor) -> str:
    """Return the 0x… data of a call or a creation."""
    return str(action.build_transaction(_FILLED)["data"])


def decode_outputs(web3: Web3, function: ContractFunction, raw: bytes) -> Any:
    """Return what a call answered: one output bare, several as a tuple, addresses checksummed.

    Raises `ChainMismatchError` when the bytes are not the function's outputs.
    """
    outputs = function.abi["outputs"]
    try:
        values = web3.codec.decode([abi_type(_item(output)) for output in outputs], raw)
    except (DecodingError, InsufficientDataBytes, ValueError, OverflowError) as error:
        raise ChainMismatchError(
            f"the contract at {function.address} does not answer {function.fn_name}",
            hint="check the contract's address",
        ) from error
    plain = tuple(
        checksummed(_item(output), value) for output, value in zip(outputs, values, strict=True)
    )
    return plain[0] if len(plain) == 1 else plain


def checksummed(field: AbiItem, value: Any) -> Any:
    """Return an ABI value with every address in it in checksum form."""
    kind = str(field["type"])
    if kind.endswith("]"):
        item = {**field, "type": kind[: kind.rindex("[")]}
        return tuple(checksummed(item, part) for part in value)
    if kind == "tuple":
        parts = zip(field["components"], value, strict=True)
        return tuple(checksummed(component, part) for component, part in parts)
    return to_checksum_address(value) if kind == "address" else value


def _item(output: Any) -> AbiItem:
    return dict(output)
