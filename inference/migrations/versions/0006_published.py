"""When a checkpoint was published: after its witnesses were asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("checkpoints", sa.Column("published_at", WHOLE, nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("checkpoints", "published_at")
