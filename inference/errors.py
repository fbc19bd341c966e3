"""The errors of the node, a branch of the registry's tree.

::

    WeightproofError
    └── NodeError                      status 500
        ├── RequestError               400  the body or a header is wrong; `param` names the field
        │   ├── BodyTooLargeError      413
        │   ├── IdentifierRequiredError 400 the call must have a payment identifier
        │   ├── BodyTooSlowError       408
        │   └── MalformedPaymentError  400  a payment header that cannot be read
        ├── ModelUnknownError          404  no such model here
        ├── ModelStoppedError          410  revoked, tainted or changed in memory: not sold any more
        ├── PaymentRefusedError        402  `code` is the x402 error code
        │   └── CorrectivePaymentError 402  carries the channel state the client resumes from
        ├── ConflictError              409  the same identifier with another content
        ├── AlreadyAnsweredError       409  what this payment paid was answered; names its receipt
        ├── UnavailableError           503  try again later; nothing was charged
        │   ├── InProgressError        503  the same payment is being served just now
        │   └── QueueFullError         429  too many calls wait already
        ├── LoadRefusedError                a verified model cannot be loaded as declared
        ├── GenerationError            500  the model failed; nothing was charged
        ├── SettlementError                 money could not be moved; the state is kept
        └── AuditError                      exit 6; carries the evidence
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from registry.errors import WeightproofError


class NodeError(WeightproofError):
    """Root of what goes wrong in the node. `status` is the HTTP status it becomes."""

    status = 500
    code = "internal_error"
    # Whether asking again with a new payment is safe; else only the same payment may come again.
    afresh = True


class RequestError(NodeError):
    """The request is wrong. `param` names the field at fault, or is empty."""

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, param: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.param = param


class BodyTooLargeError(RequestError):
    """The body is larger than the node reads."""

    status = 413
    code = "body_too_large"


class BodyTooSlowError(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = "body_too_slow"


class MalformedPaymentError(RequestError):
    """A payment header that is not base64 of a PaymentPayload."""

    code = "malformed_payment"


class IdentifierRequiredError(RequestError):
    """A paid call without a name of its payer's, which this node wants for retries."""

    code = "payment_identifier_required"


class ModelUnknownError(NodeError):
    """No model of this name or id is served here."""

    status = 404
    code = "model_not_found"


class ModelStoppedError(NodeError):
    """The model was stopped: revoked, tainted, or changed in memory."""

    status = 410
    code = "model_stopped"


class PaymentRefusedError(NodeError):
    """A payment that was read but is not accepted. `code` is the x402 error code."""

    status = 402
    exit_code = 5

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class CorrectivePaymentError(PaymentRefusedError):
    """The client lost track of its channel; `extra` holds what it resumes from."""

    def __init__(self, code: str, message: str, *, extra: Mapping[str, object]) -> None:
        super().__init__(code, message)
        self.extra = dict(extra)


class ConflictError(NodeError):
    """The same identifier came with another payment, body or route."""

    status = 409
    code = "payment_identifier_conflict"
    afresh = False


class AlreadyAnsweredError(NodeError):
    """The very same payment was made for the very same request, and it was answered.

    `transaction` (32 bytes) moved `amount`; `receipt_id` names what was signed about it.
    """

    status = 409
    code = "invalid_exact_evm_nonce_already_used"
    afresh = False

    def __init__(self, receipt_id: str, transaction: bytes, amount: int) -> None:
        super().__init__(
            "this payment was served before, its receipt says so; the answer is not kept",
            hint="do not pay again unless you want another answer",
        )
        self.receipt_id = receipt_id
        self.transaction = transaction
        self.amount = amount


class UnavailableError(NodeError):
    """A part the node needs does not answer; nothing was charged."""

    status = 503
    code = "unavailable"
    exit_code = 4


class InProgressError(UnavailableError):
    """The same payment is being served, or its money moved, just now."""

    code = "payment_in_progress"
    afresh = False

    def __init__(self, message: str = "this very call is being served just now") -> None:
        super().__init__(message, hint="send the same payment again in a few seconds")


class QueueFullError(UnavailableError):
    """Too many calls wait already; nothing was charged."""

    status = 429
    code = "queue_full"

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} calls are waiting already", hint="Try again in a few seconds.")


class LoadRefusedError(NodeError):
    """A verified model cannot be loaded as its manifest declares. `rule` says why."""

    exit_code = 3

    def __init__(self, path: str, rule: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {rule}", hint=hint)
        self.path = path
        self.rule = rule


class GenerationError(NodeError):
    """The model failed while it worked; nothing was charged."""

    code = "generation_failed"


class SettlementError(NodeError):
    """Money could not be moved; the ledger keeps the state it was in."""

    exit_code = 5


class AuditError(NodeError):
    """A check of the audit failed. `check` is its number (1 to 8), `evidence` proves it.

    `more` are other findings of the same check, each with evidence of its own.
    """

    exit_code = 6

    def __init__(
        self,
        check: int,
        message: str,
        *,
        evidence: Mapping[str, object],
        more: Sequence[AuditError] = (),
    ) -> None:
        super().__init__(f"check {check}: {message}")
        self.check = check
        self.evidence = dict(evidence)
        self.more = tuple(more)

    @property
    def detail(self) -> str:
        """The message without the check's number."""
        return self.message.removeprefix(f"check {self.check}: ")
