"""What an endpoint's answer to a signed transaction means, in the words of the clients in use.

Whoever sends may hold somebody's money until it is known what happened. Once the signed bytes have
left, only a refusal that no client gives after taking a transaction says that it was not taken; any
other answer leaves it open.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

# pooled: it waits to be mined; taken: another transaction has its nonce; refused: it was checked
# and not taken; open: nobody knows.
Verdict: TypeAlias = Literal["pooled", "taken", "refused", "open"]

_TAKEN: Final = ("nonce too low", "replacement transaction underpriced")
# How clients say that these very bytes are in their pool: geth, Nethermind, Anvil, Erigon.
_POOLED: Final = ("already known", "alreadyknown", "already imported", "existing tx with same hash")
# "Underpriced" and a full pool are not among them: some clients keep such a transaction, or
# another node behind the same address does.
_REFUSED: Final = (
    "insufficient funds",
    "insufficientfunds",
    "upfront cost exceeds account balance",
    "intrinsic gas too low",
    "intrinsic gas too high",
    "intrinsic gas exceeds gas limit",
    "exceeds block gas limit",
    "transaction gas limit too high",
    "exceeds the configured cap",
    "max fee per gas less than block base fee",
    "max priority fee per gas higher than max fee per gas",
    "max initcode size exceeded",
    "oversized data",
    "invalid sender",
    "invalid chain id",
)


def verdict(words: str) -> Verdict:
    """Return what an RPC error's message says of the transaction it answers."""
    said = words.lower()
    if any(phrase in said for phrase in _POOLED):
        return "pooled"
    if any(phrase in said for phrase in _TAKEN):
        return "taken"
    return "refused" if any(phrase in said for phrase in _REFUSED) else "open"
