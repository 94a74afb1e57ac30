"""Conversions, usage, prices, quotas, audit log, revocations, replicas; who serves a session and where it is found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COUNTED = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add columns to the first tables, then the new ones."""
    op.add_column("accounts", sa.Column("deleted_at", sa.BigInteger))
    op.add_column("account_keys", sa.Column("generation", sa.Integer, nullable=False, server_default="1"))
    op.add_column("sessions", sa.Column("replica_id", sa.String(36)))
    op.add_column("sessions", sa.Column("relay_url", sa.String(512)))
    op.add_column("sessions", sa.Column("link_path", sa.String(256)))
    op.add_column("one_time_links", sa.Column("key_serial", sa.SmallInteger))
    op.add_column("one_time_links", sa.Column("key_generation", sa.Integer))
    op.add_column("one_time_links", sa.Column("role", sa.String(32)))
    op.add_column("one_time_links", sa.Column("actor", sa.String(256)))
    op.create_table(
        "operator_tokens",
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("hash", sa.LargeBinary(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_operator_tokens"),
        comment="One token a data folder, for the interface of operators. Only digests are kept.",
    )
    op.create_index("ix_sessions_replica_id_status", "sessions", ["replica_id", "status"])
    op.create_table(
        "conversions",
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("settings_json", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("error_code", sa.String(128)),
        sa.Column("error_message", sa.Text),
        sa.Column("output_uri", sa.Text),
        sa.Column("bytes_read", sa.BigInteger),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_conversions_account_id_accounts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name="pk_conversions"),
        sa.UniqueConstraint("account_id", "id", name="uq_conversions_account_id_id"),
    )
    op.create_index("ix_conversions_account_id_created_at_key", "conversions", ["account_id", "created_at", "key"])
    op.create_index("ix_conversions_account_id_status", "conversions", ["account_id", "status"])
    op.create_index("ix_conversions_status_created_at", "conversions", ["status", "created_at"])
    op.create_table(
        "usage_records",
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("source_key", sa.String(128), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("size", sa.String(32), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("key", name="pk_usage_records"),
        sa.UniqueConstraint("source_key", name="uq_usage_records_source_key"),
        comment="One immutable row a billed interval. Outlives its session and its account, so it refers to neither.",
    )
    op.create_index("ix_usage_records_account_id_started_at", "usage_records", ["account_id", "started_at"])
    op.create_index("ix_usage_records_started_at", "usage_records", ["started_at"])
    _refuse_changes("usage_records")
    op.create_table(
        "prices",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("size", sa.String(32), nullable=False),
        sa.Column("currency", sa.String(8), nullable=False),
        sa.Column("micros_per_minute", sa.BigInteger, nullable=False),
        sa.Column("valid_from", sa.BigInteger, nullable=False),
        sa.Column("valid_until", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_prices"),
    )
    op.create_index("ix_prices_kind_size_valid_from", "prices", ["kind", "size", "valid_from"])
    op.create_table(
        "account_quotas",
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_account_quotas_account_id_accounts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "name", name="pk_account_quotas"),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", _COUNTED, nullable=False, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(256), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("account_id", sa.String(36)),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(512)),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("correlation", sa.String(128)),
        sa.Column("address", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sqlite_autoincrement=True,
        comment="Who did what. Rows are added and never changed.",
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at"])
    op.create_index("ix_audit_log_account_id_at", "audit_log", ["account_id", "at"])
    _refuse_changes("audit_log")
    op.create_table(
        "token_revocations",
        sa.Column("id", _COUNTED, nullable=False, autoincrement=True),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("key_serial", sa.SmallInteger),
        sa.Column("issued_before", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_token_revocations"),
        comment="Tokens of that account (and key, if one is named) issued before that time are void. "
        "Outlives the account.",
    )
    op.create_index("ix_token_revocations_account_id", "token_revocations", ["account_id"])
    op.create_index("ix_token_revocations_issued_before", "token_revocations", ["issued_before"])
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("url", sa.String(512), nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
        comment="The services that share this database; each moves its seen_at while it lives.",
    )


def _refuse_changes(table: str) -> None:
    """Let the database itself refuse to change or delete rows of a table that holds what has happened."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'rows of {table} are never changed'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_refuse BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {table}_refuse()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_refuse_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed'); END"
        )


def downgrade() -> None:
    """Drop what this version added."""
    for table in (
        "replicas",
        "operator_tokens",
        "token_revocations",
        "audit_log",
        "account_quotas",
        "prices",
        "usage_records",
        "conversions",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION usage_records_refuse()")
        op.execute("DROP FUNCTION audit_log_refuse()")
    op.drop_index("ix_sessions_replica_id_status", "sessions")
    for table, column in (
        ("one_time_links", "actor"),
        ("one_time_links", "role"),
        ("one_time_links", "key_generation"),
        ("one_time_links", "key_serial"),
        ("sessions", "link_path"),
        ("sessions", "relay_url"),
        ("sessions", "replica_id"),
        ("account_keys", "generation"),
        ("accounts", "deleted_at"),
    ):
        op.drop_column(table, column)
