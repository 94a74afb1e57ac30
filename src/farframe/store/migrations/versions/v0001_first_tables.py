"""Accounts, keys, sessions, uploads, signing keys, one-time links."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
    )
    op.create_table(
        "account_keys",
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("serial", sa.SmallInteger, nullable=False, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_account_keys_account_id_accounts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "serial", name="pk_account_keys"),
        comment="Two keys an account: 1 primary, 2 secondary, so that one can be changed while the other serves.",
    )
    op.create_table(
        "sessions",
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("size", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_lease_minutes", sa.Integer, nullable=False),
        sa.Column("lease_minutes", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("ready_at", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("error_code", sa.String(128)),
        sa.Column("error_message", sa.Text),
        sa.Column("server_id", sa.String(128)),
        sa.Column("pid", sa.Integer),
        sa.Column("hostname", sa.String(256)),
        sa.Column("handshake_port", sa.Integer),
        sa.Column("inspector_port", sa.Integer),
        sa.Column("teraflops", sa.Float),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_sessions_account_id_accounts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name="pk_sessions"),
        sa.UniqueConstraint("account_id", "id", name="uq_sessions_account_id_id"),
    )
    op.create_index("ix_sessions_status_expires_at", "sessions", ["status", "expires_at"])
    op.create_index(
        "ix_sessions_account_id_status_created_at_key", "sessions", ["account_id", "status", "created_at", "key"]
    )
    op.create_index("ix_sessions_ended_at", "sessions", ["ended_at"])
    op.create_table(
        "uploads",
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_uploads_account_id_accounts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"])
    op.create_table(
        "upload_files",
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("upload_id", sa.String(256), nullable=False),
        sa.Column("path", sa.String(1024), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "upload_id"],
            ["uploads.account_id", "uploads.id"],
            name="fk_upload_files_account_id_upload_id_uploads",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("account_id", "upload_id", "path", name="pk_upload_files"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("private_pem", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("retired_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_signing_keys"),
    )
    op.create_table(
        "one_time_links",
        sa.Column("code_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("session_id", sa.String(256)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("redeemed_at", sa.BigInteger),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_one_time_links_account_id_accounts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("code_hash", name="pk_one_time_links"),
    )
    op.create_index("ix_one_time_links_expires_at", "one_time_links", ["expires_at"])


def downgrade() -> None:
    """Drop everything, in the order that the references allow."""
    for table in ("one_time_links", "signing_keys", "upload_files", "uploads", "sessions", "account_keys", "accounts"):
        op.drop_table(table)
