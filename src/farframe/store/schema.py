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
)

account_keys = Table(
    "account_keys",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("serial", SmallInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
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
    UniqueConstraint("account_id", "id"),
    Index(None, "status", "expires_at"),
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
)
