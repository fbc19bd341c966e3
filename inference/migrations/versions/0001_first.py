"""The first schema: owner, channels, reservations, authorisations, receipts, log, checkpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Amounts are decimal text of up to 256 bits.
AMOUNT = sa.String(78)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    _channels()
    _authorizations()
    _log()


def _channels() -> None:
    op.create_table(
        "channels",
        sa.Column("channel_id", sa.String(66), primary_key=True),
        sa.Column("payer", sa.String(42), nullable=False),
        sa.Column("receiver", sa.String(42), nullable=False),
        sa.Column("token", sa.String(42), nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("charged", AMOUNT, nullable=False),
        sa.Column("credit", AMOUNT, nullable=False),
        sa.Column("signed_max", AMOUNT, nullable=False),
        sa.Column("voucher_signature", sa.LargeBinary, nullable=False),
        sa.Column("balance", AMOUNT, nullable=False),
        sa.Column("total_claimed", AMOUNT, nullable=False),
        sa.Column("withdraw_amount", AMOUNT, nullable=False),
        sa.Column("withdraw_requested_at", sa.Integer, nullable=False),
        sa.Column("refund_nonce", AMOUNT, nullable=False),
        sa.Column("mirrored_block", sa.Integer, nullable=False),
        sa.Column("mirrored_at", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
    )
    op.create_index("channels_payer", "channels", ["payer"])
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column(
            "channel_id", sa.String(66), sa.ForeignKey("channels.channel_id"), nullable=False
        ),
        sa.Column("kind", sa.String(6), nullable=False),
        sa.Column("amount", AMOUNT, nullable=False),
        sa.Column("least", AMOUNT, nullable=False),
        sa.Column("known", AMOUNT, nullable=False),
        sa.Column("told", AMOUNT, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
    )
    op.create_index("reservations_channel", "reservations", ["channel_id"])


def _authorizations() -> None:
    op.create_table(
        "authorizations",
        sa.Column("asset", sa.String(42), nullable=False),
        sa.Column("payer", sa.String(42), nullable=False),
        sa.Column("nonce", sa.String(66), nullable=False),
        sa.Column("purpose", sa.String(8), nullable=False),
        sa.Column("reservation_id", sa.String(32), nullable=False, unique=True),
        sa.Column("channel_id", sa.String(66), nullable=True),
        sa.Column("amount", AMOUNT, nullable=False),
        sa.Column("valid_before", AMOUNT, nullable=False),
        sa.Column("state", sa.String(9), nullable=False),
        sa.Column("tx_hash", sa.String(66), nullable=True),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("asset", "payer", "nonce"),
    )
    op.create_index("authorizations_state", "authorizations", ["state"])


def _log() -> None:
    op.create_table(
        "receipts",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False, unique=True),
        sa.Column("payer", sa.String(42), nullable=False),
        sa.Column("json", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("salts", sa.Text, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
    )
    op.create_index("receipts_payer", "receipts", ["payer"])
    op.create_table(
        "log_entries",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_nodes",
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("level", "position"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("anchored_tx", sa.String(66), nullable=True),
    )


def downgrade() -> None:
    """Undo."""
    for table in (
        "checkpoints",
        "log_nodes",
        "log_entries",
        "receipts",
        "authorizations",
        "reservations",
        "channels",
        "meta",
    ):
        op.drop_table(table)
