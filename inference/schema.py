"""Every table of the node's database, on one `metadata`.

One file, so that the whole durable state of a node can be read in one sitting; the modules that
own the tables are named beside them. `inference/migrations` creates them; a test compares the two.

Amounts are whole atomic units and may need 128 or 256 bits, more than any database integer:
they are stored as decimal text and added in Python, inside the transaction that writes them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from inference.errors import NodeError

# Decimal digits of the largest uint256.
AMOUNT_DIGITS = 78


class Amount(TypeDecorator[int]):
    """A non-negative integer of up to 256 bits, kept as decimal text."""

    impl = String(AMOUNT_DIGITS)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        """Write the decimal digits. Raises `NodeError` for anything but 0 … 2^256 - 1."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 256:
            raise NodeError(f"{value!r:.80} is not an amount")
        return str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        """Read the digits back."""
        return None if value is None else int(value)


# 64 bits in both databases; SQLite's INTEGER has them.
Whole = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

# Whose database this is: chain_id, channels (contract address), node (address). database.py.
meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# The processes that had this database open; what is in flight carries its instance. `mark` is the
# number of its last transaction: what became of a COMMIT that nobody answered is read from it.
# instance.py.
instances = Table(
    "instances",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("started_at", Whole, nullable=False),
    Column("ended_at", Whole, nullable=False),  # 0 while it lives, or nobody has ended it yet
    Column("mark", Whole, nullable=False),
    Index("instances_ended", "ended_at"),
)

# One row per payment channel. payments/ledger.py.
channels = Table(
    "channels",
    metadata,
    Column("channel_id", String(66), primary_key=True),  # 0x + 64 hex
    Column("payer", String(42), nullable=False),
    Column("receiver", String(42), nullable=False),
    Column("token", String(42), nullable=False),
    Column("config", Text, nullable=False),  # the ChannelConfig as JSON, for claims
    # What the payer was told: cumulative charge, and the part of it never to be claimed.
    Column("charged", Amount, nullable=False),
    Column("credit", Amount, nullable=False),
    # The highest voucher seen. Its signature is money: it is stored before any work is done.
    Column("signed_max", Amount, nullable=False),
    Column("voucher_signature", LargeBinary, nullable=False),
    # What the chain said, at `mirrored_block` and unix second `mirrored_at`.
    Column("balance", Amount, nullable=False),
    Column("total_claimed", Amount, nullable=False),
    Column("withdraw_amount", Amount, nullable=False),
    Column("withdraw_requested_at", Whole, nullable=False),  # unix seconds, 0 = none
    Column("refund_nonce", Amount, nullable=False),
    Column("mirrored_block", Whole, nullable=False),
    Column("mirrored_at", Whole, nullable=False),
    Column("created_at", Whole, nullable=False),
    Index("channels_payer", "payer"),
)

# Calls in flight on a channel; a row goes when its call is committed or released.
# payments/ledger.py.
reservations = Table(
    "reservations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("channel_id", String(66), ForeignKey("channels.channel_id"), nullable=False),
    # call: charged when it ends; stream: its quote is in `charged` already; refund: bars all others
    Column("kind", String(6), nullable=False),
    Column("amount", Amount, nullable=False),  # the quote: the most this call may cost
    Column("least", Amount, nullable=False),  # the least it can cost
    Column("known", Amount, nullable=False),  # the cumulative charge its voucher built upon
    Column("told", Amount, nullable=False),  # of a stream's quote, what raised `charged`
    Column("created_at", Whole, nullable=False),
    Column("instance", String(32), nullable=False, server_default=""),
    Index("reservations_channel", "channel_id"),
)

# EIP-3009 authorisations spent here: `exact` payments and channel deposits. payments/ledger.py.
authorizations = Table(
    "authorizations",
    metadata,
    Column("asset", String(42), nullable=False),
    Column("payer", String(42), nullable=False),
    Column("nonce", String(66), nullable=False),
    Column("purpose", String(8), nullable=False),  # exact | deposit
    Column("reservation_id", String(32), nullable=False, unique=True),
    Column("channel_id", String(66), nullable=True),  # deposits only
    Column("amount", Amount, nullable=False),
    Column("valid_before", Amount, nullable=False),  # unix seconds, a uint256 in the payload
    # reserved settling settled unknown released; exact payments also: paid serving
    Column("state", String(9), nullable=False),
    Column("tx_hash", String(66), nullable=True),
    Column("created_at", Whole, nullable=False),
    Column("instance", String(32), nullable=False, server_default=""),
    # Of exact payments: which request it pays (32 bytes), and the receipt of what it paid.
    Column("binding", LargeBinary, nullable=True),
    Column("receipt_id", String(66), nullable=True),
    PrimaryKeyConstraint("asset", "payer", "nonce"),
    Index("authorizations_state", "state"),
)

# Calls that their payers named, and what was answered: prompts' answers lie here, until they
# expire, and nowhere else. answers.py.
answers = Table(
    "answers",
    metadata,
    Column("payer", String(42), nullable=False),
    Column("id", String(128), nullable=False),  # the payer's name for it
    Column("binding", LargeBinary, nullable=False),  # 32 bytes: which request and payment it is
    Column("reservation_id", String(32), nullable=False),
    Column("created_at", Whole, nullable=False),
    Column("expires_at", Whole, nullable=False),  # unix seconds
    Column("size", Whole, nullable=False),  # bytes of what is kept
    # Null until it is answered.
    Column("status", Integer, nullable=True),
    Column("media_type", String(64), nullable=True),
    Column("payment_response", Text, nullable=True),
    Column("failure", Text, nullable=True),  # JSON: the error it was answered with
    Column("body", LargeBinary, nullable=True),
    PrimaryKeyConstraint("payer", "id"),
    Index("answers_expires_at", "expires_at"),
)

# Calls that are kept for auditors whom their payers allow: prompts lie here, until they expire,
# where the settings say so. disclosure_book.py.
disclosures = Table(
    "disclosures",
    metadata,
    Column("receipt_id", String(66), primary_key=True),
    Column("request", LargeBinary, nullable=False),  # the exact body
    Column("output_ids", LargeBinary, nullable=False),  # four little-endian bytes each
    Column("size", Whole, nullable=False),  # bytes of both
    Column("created_at", Whole, nullable=False),
    Column("expires_at", Whole, nullable=False),  # unix seconds
    Index("disclosures_expires_at", "expires_at"),
)

# Calls that were rightly asked for and not disclosed; the log has the same. disclosure_book.py.
refusals = Table(
    "refusals",
    metadata,
    Column("receipt_id", String(66), primary_key=True),
    Column("body", Text, nullable=False),
)

# Challenges that a wallet signed, each good for one request. sign_in.py.
sign_ins = Table(
    "sign_ins",
    metadata,
    Column("nonce", String(32), primary_key=True),
    Column("expires_at", Whole, nullable=False),  # unix seconds
    Index("sign_ins_expires_at", "expires_at"),
)

# The node's signed statements about calls. kept_receipts.py.
receipts = Table(
    "receipts",
    metadata,
    Column("id", String(66), primary_key=True),
    Column("seq", Whole, nullable=False, unique=True),
    Column("payer", String(42), nullable=False),
    Column("json", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("salts", Text, nullable=False),  # JSON; given to the payer only
    Column("created_at", Whole, nullable=False),
    Index("receipts_payer", "payer", "seq"),
)

# The audit log: RFC 6962 leaves, and the interior nodes that are complete. audit/log.py.
log_entries = Table(
    "log_entries",
    metadata,
    Column("seq", Whole, primary_key=True, autoincrement=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
log_nodes = Table(
    "log_nodes",
    metadata,
    Column("level", Whole, nullable=False),
    Column("position", Whole, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("level", "position"),
)

# Signed heads of the log. audit/checkpoint.py.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", Whole, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),  # with the lines of those who cosigned it
    Column("anchored_tx", String(66), nullable=True),
    Column("published_at", Whole, nullable=True),  # unix seconds; witnesses had been asked by then
)

# What a payer was charged within a period of the volume tiers. payments/plan_book.py.
spending = Table(
    "spending",
    metadata,
    Column("payer", String(42), nullable=False),
    Column("since", Whole, nullable=False),  # unix seconds, as `until`
    Column("until", Whole, nullable=False),
    Column("spent", Amount, nullable=False),
    PrimaryKeyConstraint("payer", "since", "until"),
)

# Every price offer that calls were sold by: receipts name them. price_offer.py.
price_offers = Table(
    "price_offers",
    metadata,
    Column("digest", String(66), primary_key=True),
    Column("body", Text, nullable=False),
    Column("kept_at", Whole, nullable=False),
)

# Coupons, trials and subscriptions that were used or bought. payments/plan_book.py.
allowances = Table(
    "allowances",
    metadata,
    Column("id", String(66), primary_key=True),
    Column("kind", String(12), nullable=False),  # coupon | trial | subscription
    Column("name", String(64), nullable=False),  # of the trial or subscription
    Column("payer", String(42), nullable=False),  # empty for a coupon that its bearer may use
    Column("unit", String(6), nullable=False),  # calls | amount
    Column("quota", Amount, nullable=False),
    Column("used", Amount, nullable=False),
    Column("until", Whole, nullable=False),  # unix seconds, 0 = no end
    Column("created_at", Whole, nullable=False),
    Index("allowances_payer", "payer", "kind"),
)

# What the node's key signed for the chain. Versions of one nonce differ in their fees; the chain
# mines one of them at most. sent_book.py.
transactions = Table(
    "transactions",
    metadata,
    Column("hash", String(66), primary_key=True),
    Column("sender", String(42), nullable=False),
    Column("nonce", Whole, nullable=False),
    Column("doing", String(64), nullable=False),  # the contract's function
    Column("tip", Amount, nullable=False),  # wei per gas
    Column("most", Amount, nullable=False),
    Column("raw", LargeBinary, nullable=False),  # signed bytes, while they may still be mined
    Column("sent_at", Whole, nullable=False),
    # waiting; mined; noted: mined and told to the log; failed: mined and reverted; lost
    Column("state", String(7), nullable=False),
    Index("transactions_state", "state"),
)

# Since when a channel has had something unclaimed, in unix seconds. dues.py.
dues = Table(
    "dues",
    metadata,
    Column("channel_id", String(66), primary_key=True),
    Column("since", Whole, nullable=False),
)
