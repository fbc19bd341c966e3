"""The NodeRegistry's refusals in words: one sentence and a hint for each custom error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from inference.errors import NodeError
from inference.moment import moment
from registry.errors import TransactionFailedError


class BondRefusedError(NodeError):
    """The NodeRegistry refused; nothing was changed. `error` is the custom error's name."""

    exit_code = 4

    def __init__(self, message: str, *, error: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.error = error


# Of a custom error's arguments: the sentence, and what to do.
_Words: TypeAlias = Callable[..., tuple[str, str]]

_NEW_KEY: Final = "make a new key (weightproof key) and begin a new log with it"
_OTHERS_FIRST: Final = "weightproof bond status tells what became of it"

WORDS: Final[Mapping[str, _Words]] = {
    "NotAContract": lambda place: (f"there is no contract at {place}", ""),
    "NoStake": lambda: ("a registry without a stake for challenges cannot be made", ""),
    "AlreadyRegistered": lambda node: (f"{node} was put up before; a key is put up once", _NEW_KEY),
    "UnknownNode": lambda node: (
        f"no bond stands for {node}: it was never put up, left, or lost its bond",
        _OTHERS_FIRST,
    ),
    "NotTheOwner": lambda node, caller: (
        f"{caller} does not own the bond of {node}",
        "give the owner's role with --key",
    ),
    "NoConsent": lambda node, signer: (
        f"{node} did not consent to this owner and address; {signer} signed",
        "keys.node must be the key that signs receipts",
    ),
    "EmptyBond": lambda: ("a bond of nothing is no bond", "give an amount"),
    "WrongAmount": lambda expected, moved: (
        f"the token moved {moved} instead of {expected}",
        "tokens that take a fee cannot be a bond",
    ),
    "AlreadyLeaving": lambda node, leaves_at: (
        f"{node} is leaving already, from {moment(leaves_at)} on",
        _OTHERS_FIRST,
    ),
    "StillBound": lambda node, leaves_at, challenges: (
        f"the bond of {node} stands until {moment(leaves_at)}, and while challenges wait "
        f"({challenges} now)",
        "answer them first: weightproof bond answer" if challenges else "come back then",
    ),
    "SameStatement": lambda: ("both statements are the same one: no lie is shown", ""),
    "TwoSigners": lambda first, second: (
        f"the statements are signed by two keys, {first} and {second}: no single node lied",
        "",
    ),
    "WrongSizes": lambda first, second: (
        f"heads of {first} and {second} entries do not fit this report",
        "a fork has one size, a challenge the smaller head first",
    ),
    "DifferentPlaces": lambda first, second: (
        f"receipts {first} and {second} have two numbers: both may be true",
        "",
    ),
    "WrongProof": lambda index, size: (
        f"the proof of entry {index} does not lead to the signed root of {size} entries",
        "",
    ),
    "WrongText": lambda digest, found: (
        f"the text has digest {_hex(found)}, the receipt was signed over {_hex(digest)}",
        "",
    ),
    "AlreadyChallenged": lambda id: (
        f"this was asked before, as challenge {_hex(id)}; nothing is asked twice",
        "submit the same file again once its time is over",
    ),
    "NoChallenge": lambda id: (f"challenge {_hex(id)} is over, or was never made", _OTHERS_FIRST),
    "StillAnswerable": lambda id, deadline: (
        f"challenge {_hex(id)} can be answered until {moment(deadline)}",
        "submit the same file again after that",
    ),
    "NoExtension": lambda id: (
        f"the proof does not show that the later head of challenge {_hex(id)} extends the earlier",
        "",
    ),
    "ECDSAInvalidSignature": lambda: ("a signature belongs to no key", ""),
    "ECDSAInvalidSignatureLength": lambda length: (f"a signature of {length} bytes, not 65", ""),
    "ECDSAInvalidSignatureS": lambda s: (f"a signature's s is in the upper half: {_hex(s)}", ""),
    "SafeERC20FailedOperation": lambda token: (f"the token {token} refused the transfer", ""),
    "ReentrancyGuardReentrantCall": lambda: ("the token calls back, which no bond may", ""),
    "ERC20InsufficientBalance": lambda owner, balance, needed: (
        f"{owner} holds {balance} of the bonds' token, {needed} is needed",
        "on a devnet anybody may mint it",
    ),
    "ERC20InsufficientAllowance": lambda spender, allowance, needed: (
        f"{spender} may draw {allowance}, {needed} is needed",
        "try again: another program changed the allowance",
    ),
}


def refusal(error: TransactionFailedError) -> BondRefusedError | TransactionFailedError:
    """Return what a refusal means; the error itself where it is none of the contract's."""
    words: Any = WORDS.get(error.error)
    if words is None:
        return error
    try:
        message, hint = words(*error.values)
    except TypeError:  # another contract's error of the same name
        return error
    return BondRefusedError(message, error=error.error, hint=hint)


def _hex(value: object) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
