"""The tables. Changes need a migration under ``migrations/versions``; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
)

account_keys = Table(
    "account_keys",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("serial", SmallInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),
    comment="Two keys an account: 1 primary, 2 secondary, so that one can be changed while the other serves.",
)

sessions = Table(
    "sessions",
    metadata,
    Column("key", String(36), primary_key=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("id", String(256), nullable=False),
    Column("size", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_lease_minutes", Integer, nullable=False),
    Column("lease_minutes", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("ready_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("error_code", String(128)),
    Column("error_message", Text),
    Column("server_id", String(128)),
    Column("pid", Integer),
    Column("hostname", String(256)),
    Column("handshake_port", Integer),
    Column("inspector_port", Integer),
    Column("teraflops", Float),
    Column("replica_id", String(36)),
    Column("relay_url", String(512)),
    Column("link_path", String(256)),
    UniqueConstraint("account_id", "id"),
    Index(None, "status", "expires_at"),
    Index(None, "replica_id", "status", "size"),
    Index(None, "account_id", "status", "created_at", "key"),
    Index(None, "ended_at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("id", String(256), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

upload_files = Table(
    "upload_files",
    metadata,
    Column("account_id", String(36), primary_key=True),
    Column("upload_id", String(256), primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["account_id", "upload_id"], ["uploads.account_id", "uploads.id"], ondelete="CASCADE"),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("private_pem", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("retired_at", BigInteger),
)

one_time_links = Table(
    "one_time_links",
    metadata,
    Column("code_hash", LargeBinary(32), primary_key=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("session_id", String(256)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("redeemed_at", BigInteger),
    Column("key_serial", SmallInteger),
    Column("key_generation", Integer),
    Column("role", String(32)),
    Column("actor", String(256)),
)

operator_tokens = Table(
    "operator_tokens",
    metadata,
    Column("name", String(512), primary_key=True),
    Column("hash", LargeBinary(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    comment="One token a data folder, for the interface of operators. Only digests are kept.",
)

conversions = Table(
    "conversions",
    metadata,
    Column("key", String(36), primary_key=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("id", String(256), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("settings_json", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("error_code", String(128)),
    Column("error_message", Text),
    Column("output_uri", Text),
    Column("bytes_read", BigInteger),
    UniqueConstraint("account_id", "id"),
    Index(None, "account_id", "created_at", "key"),
    Index(None, "account_id", "status"),
    Index(None, "status", "created_at"),
)

conversion_jobs = Table(
    "conversion_jobs",
    metadata,
    Column("key", ForeignKey("conversions.key", ondelete="CASCADE"), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("replica_id", String(36)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("stage", String(80)),
    Column("fraction", Float),
    Index(None, "replica_id", "created_at"),
    comment="Signatures are sealed with a key that is not in the database. A row goes when its conversion ends.",
)

usage_records = Table(
    "usage_records",
    metadata,
    Column("key", String(36), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("source_key", String(128), nullable=False, unique=True),
    Column("account_id", String(36), nullable=False),
    Column("size", String(32), nullable=False),
    Column("region", String(64), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Index(None, "account_id", "started_at"),
    Index(None, "started_at"),
    comment="One immutable row a billed interval. Outlives its session and its account, so it refers to neither.",
)

prices = Table(
    "prices",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("size", String(32), nullable=False),
    Column("currency", String(8), nullable=False),
    Column("micros_per_minute", BigInteger, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_until", BigInteger),
    Index(None, "kind", "size", "valid_from"),
)

account_quotas = Table(
    "account_quotas",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    # SQLite counts up on its own only in an INTEGER PRIMARY KEY; "autoincrement" keeps it from reusing numbers.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("role", String(32), nullable=False),
    Column("account_id", String(36)),
    Column("action", String(64), nullable=False),
    Column("target", String(512)),
    Column("outcome", String(32), nullable=False),
    Column("correlation", String(128)),
    Column("address", String(64)),
    Index(None, "at"),
    Index(None, "account_id", "at"),
    sqlite_autoincrement=True,
    comment="Who did what. Rows are added and never changed.",
)

token_revocations = Table(
    "token_revocations",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("account_id", String(36), nullable=False),
    Column("key_serial", SmallInteger),
    Column("issued_before", BigInteger, nullable=False),
    Index(None, "account_id"),
    Index(None, "issued_before"),
    comment="Tokens of that account (and key, if one is named) issued before that time are void. Outlives the account.",
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("url", String(512), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    comment="The services that share this database; each moves its seen_at while it lives.",
)
