"""The errors of the registry, one tree.

::

    WeightproofError            exit 1   everything below; `hint` says what to do
    ├── ConfigError             exit 2   a setting is missing or wrong
    ├── CanonicalError          exit 3   bytes are not the canonical JSON we accept
    ├── CidError                exit 3   text or bytes are not a CID of our profile
    ├── ManifestError           exit 3   canonical JSON, but not a manifest
    ├── BlockError              exit 3   the block store
    │   ├── BlockMissingError            nobody had the block
    │   ├── BlockCorruptError            bytes came that do not hash to the CID
    │   └── BlockStoreError              the store cannot be reached or written
    ├── FileRefusedError        exit 3   a file is extra, missing, changed or of a forbidden kind
    ├── TemplateRefusedError    exit 3   messages that a chat template does not take
    ├── RecordError             exit 3   the chain's record forbids it
    │   ├── RecordUnknownError           no such record
    │   └── RecordRevokedError           it or something it came from was revoked
    ├── PolicyError             exit 3   true, but not enough for this policy
    ├── KeyringError            exit 2   keys and signatures
    │   ├── SignatureError               a signature is malformed or by somebody else
    │   └── KeyRefusedError              a key must not be used here
    └── ChainError              exit 4   the chain itself
        ├── ChainUnreachableError        no answer
        │   └── TransactionUnknownError  sent, but its outcome is not known; carries the hash
        ├── ChainMismatchError           another chain, or no contract at the address
        ├── ChainStaleError              its newest final block is too old to trust
        ├── ChainDisputedError           endpoints, or one endpoint's two answers, contradict
        ├── GasTooDearError              gas costs more than the settings allow; nothing was sent
        └── TransactionFailedError       a transaction reverted; carries the decoded reason
            └── TransactionRefusedError  the endpoint did not take it; nothing was executed
"""

from __future__ import annotations


class WeightproofError(Exception):
    """Root of every error this project raises on purpose.

    `hint` is one sentence that says what to do; the command line prints it after the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(WeightproofError):
    """A setting is missing or wrong."""

    exit_code = 2


class CanonicalError(WeightproofError):
    """Bytes are not the one canonical JSON text of a value."""

    exit_code = 3


class CidError(WeightproofError):
    """Text or bytes are not a CID of the profile we accept."""

    exit_code = 3


class ManifestError(WeightproofError):
    """Canonical JSON, but not a manifest of a known version."""

    exit_code = 3


class BlockError(WeightproofError):
    """A block could not be had. `cid` is its name as text."""

    exit_code = 3

    def __init__(self, message: str, *, cid: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.cid = cid


class BlockMissingError(BlockError):
    """No source had the block."""


class BlockCorruptError(BlockError):
    """A source returned bytes that do not hash to the CID."""


class BlockStoreError(BlockError):
    """The store cannot be reached, read or written."""


class FileRefusedError(WeightproofError):
    """A file of a registered folder breaks a rule. `path` is relative to the folder."""

    exit_code = 3

    def __init__(self, path: str, rule: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {rule}", hint=hint)
        self.path = path
        self.rule = rule


class TemplateRefusedError(WeightproofError):
    """A model's chat template or tokenizer does not take this text."""

    exit_code = 3


class RecordError(WeightproofError):
    """The chain's record forbids what was asked."""

    exit_code = 3


class RecordUnknownError(RecordError):
    """The chain has no such record."""


class RecordRevokedError(RecordError):
    """The record, or one it descends from, was revoked."""


class PolicyError(WeightproofError):
    """Everything is true, but it is not enough for this policy."""

    exit_code = 3


class KeyringError(WeightproofError):
    """Keys and signatures."""

    exit_code = 2


class SignatureError(KeyringError):
    """A signature is malformed or made by somebody else."""


class KeyRefusedError(KeyringError):
    """A key must not be used here."""


class ChainError(WeightproofError):
    """The chain itself."""

    exit_code = 4


class ChainUnreachableError(ChainError):
    """The RPC endpoint gave no answer."""


class TransactionUnknownError(ChainUnreachableError):
    """A transaction was sent and nobody knows its outcome. `tx_hash` (32 bytes) finds it later."""

    def __init__(self, message: str, *, tx_hash: bytes, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.tx_hash = tx_hash


class ChainMismatchError(ChainError):
    """Another chain than expected, or no contract at an address."""


class ChainStaleError(ChainError):
    """The newest final block is too old: whoever shows it lags, and may hide a revocation."""


class ChainDisputedError(ChainError):
    """Two answers about the same block contradict: somebody lies, or history was rewritten.

    `evidence` holds who said what, as (host, value) pairs.
    """

    def __init__(
        self, message: str, *, evidence: tuple[tuple[str, str], ...] = (), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.evidence = evidence


class GasTooDearError(ChainError):
    """Gas costs `price` wei, the settings allow `cap`; nothing was sent."""

    def __init__(self, price: int, cap: int) -> None:
        super().__init__(
            f"gas costs {price} wei, the settings allow {cap}",
            hint="wait, or raise chain.max_fee_gwei",
        )
        self.price = price
        self.cap = cap


class TransactionFailedError(ChainError):
    """A transaction or call reverted. `reason` is the decoded custom error or message.

    `error` is the custom error's name (empty for a plain message) and `values` its arguments.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        error: str = "",
        values: tuple[object, ...] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.error = error
        self.values = values


class TransactionRefusedError(TransactionFailedError):
    """The endpoint did not take a transaction: no funds, no nonce, no gas. It was not executed."""
