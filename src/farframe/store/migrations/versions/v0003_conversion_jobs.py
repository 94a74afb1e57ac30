"""Jobs of conversion workers: what waits, who does it, how far it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "conversion_jobs",
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("replica_id", sa.String(36)),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("stage", sa.String(80)),
        sa.Column("fraction", sa.Float),
        sa.ForeignKeyConstraint(
            ["key"], ["conversions.key"], name="fk_conversion_jobs_key_conversions", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name="pk_conversion_jobs"),
        comment="Signatures are sealed with a key that is not in the database. A row goes when its conversion ends.",
    )
    op.create_index("ix_conversion_jobs_replica_id_created_at", "conversion_jobs", ["replica_id", "created_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("conversion_jobs")
