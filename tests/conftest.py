"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes is no finding: machines that run tests are shared.
hypothesis.settings.register_profile(
    "farframe", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("farframe")

# A shell that runs the tests in the background lets them ignore Ctrl-C, and commands that they start would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Assertions in shared code explain themselves like those in tests.
pytest.register_assert_rewrite("tests.faults.harness")

from tests.postgresql import PostgresServer  # noqa: E402
from tests.storage_servers import Azurite, S3Server  # noqa: E402


@pytest.fixture(scope="session")
def models_folder() -> Path:
    """The folder of real model files. Set FARFRAME_TEST_MODELS to run the tests that need it."""
    value = os.environ.get("FARFRAME_TEST_MODELS")
    if not value:
        pytest.skip("set FARFRAME_TEST_MODELS to a folder of real model files to run this test")
    folder = Path(value)
    assert folder.is_dir(), f"FARFRAME_TEST_MODELS names {folder}, which is not a folder"
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this run of the tests."""
    server = PostgresServer.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_source(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty database for :meth:`farframe.store.store.Store.open`: every test that asks for it runs on both kinds."""
    if request.param == "sqlite":
        return tmp_path / "farframe.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """An Azure Blob Storage server for this run of the tests."""
    server = Azurite.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server for this run of the tests."""
    server = S3Server.start()
    yield server
    server.stop()
