"""Where web3 ends: whatever it raises leaves here as one of our chain errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from web3.exceptions import BlockNotFound, ContractLogicError, Web3Exception, Web3RPCError

from registry.chain.revert import decode_revert
from registry.errors import ChainMismatchError, ChainUnreachableError, TransactionFailedError

# What web3 and eth-abi raise when an endpoint answers with the wrong shape.
_BAD_SHAPE: Final = (Web3Exception, ValueError, TypeError, LookupError, AttributeError)
# How clients say that a block is not, or no longer, on their chain (EIP-1474 gives the code).
_RESOURCE_NOT_FOUND: Final = -32001
_BLOCK_GONE: Final = (
    "header not found",
    "block not found",
    "unknown block",
    "not canonical",
    "out of range",
    "outofrange",
)
# Of a call that took all the gas it was given: it ended, unlike one that was not run.
_OUT_OF_GAS: Final = ("out of gas", "outofgas", "oog")


@contextmanager
def edge(host: str, doing: str) -> Iterator[None]:
    """Run web3 calls; `doing` names them in errors, such as "Attestations.attest".

    Raises `TransactionFailedError` (reverted or refused), `ChainMismatchError` (the block is
    gone) or `ChainUnreachableError` (no usable answer).
    """
    try:
        yield
    except ContractLogicError as error:
        refusal = decode_revert(error.data)
        text = refusal.text if refusal.error or not error.message else _plain(error, refusal.text)
        raise TransactionFailedError(
            f"{doing} reverted: {text}", reason=text, error=refusal.error, values=refusal.values
        ) from error
    except BlockNotFound as error:
        raise _block_gone(host, doing) from error
    except Web3RPCError as error:
        if _is_block_gone(error):
            raise _block_gone(host, doing) from error
        if _says(rpc_message(error), _OUT_OF_GAS):
            raise TransactionFailedError(f"{doing} ran out of gas", reason="out of gas") from error
        raise ChainUnreachableError(
            f"the chain at {host} refused {doing}: {rpc_message(error)}",
            hint="check the RPC endpoint; it may limit or not offer this request",
        ) from error
    except _BAD_SHAPE as error:
        raise ChainUnreachableError(
            f"the chain at {host} gave no usable answer to {doing}: {type(error).__name__}",
            hint="check that the address is an Ethereum JSON-RPC endpoint",
        ) from error


def rpc_message(error: Web3RPCError) -> str:
    """Return the endpoint's own words from an RPC error, at most 300 characters of one line."""
    words = str(_inner(error).get("message") or error.message or "no message")[:300]
    # Foreign words must not move a terminal's cursor.
    return words if words.isprintable() else words.encode("unicode_escape").decode()[:300]


def _is_block_gone(error: Web3RPCError) -> bool:
    gone = _inner(error).get("code") == _RESOURCE_NOT_FOUND
    return gone or _says(rpc_message(error), _BLOCK_GONE)


def _says(text: str, phrases: tuple[str, ...]) -> bool:
    return any(words in text.lower() for words in phrases)


def _inner(error: Web3RPCError) -> Mapping[str, object]:
    response: object = error.rpc_response
    inner = response.get("error") if isinstance(response, dict) else None
    return inner if isinstance(inner, dict) else {}


def _plain(error: ContractLogicError, text: str) -> str:
    return text if text != "no reason given" else str(error.message)


def _block_gone(host: str, doing: str) -> ChainMismatchError:
    return ChainMismatchError(
        f"the chain at {host} does not have the block that {doing} asked about",
        hint="the chain was reorganised or reset; start again from its present head",
    )
