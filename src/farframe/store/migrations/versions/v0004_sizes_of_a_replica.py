"""Count a replica's active sessions of one size from an index alone: every creation does."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Put the size into the index."""
    op.create_index("ix_sessions_replica_id_status_size", "sessions", ["replica_id", "status", "size"])
    op.drop_index("ix_sessions_replica_id_status", "sessions")


def downgrade() -> None:
    """Take it out again."""
    op.create_index("ix_sessions_replica_id_status", "sessions", ["replica_id", "status"])
    op.drop_index("ix_sessions_replica_id_status_size", "sessions")
