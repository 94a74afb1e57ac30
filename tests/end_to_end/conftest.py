"""The service that most end-to-end tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.harness import RunningService, start_service

PATIENT = {"FARFRAME_RESUME_GRACE_SECONDS": "120"}
"""A scene is kept for as long as a slow machine needs to look at what happens meanwhile."""


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the service may read; tests put their files into folders of their own below it."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[RunningService]:
    """One service for all tests that leave it as they found it."""
    folders = [str(shared_folder)]
    if os.environ.get("FARFRAME_TEST_MODELS"):
        folders.append(os.environ["FARFRAME_TEST_MODELS"])
    options = [option for folder in folders for option in ("--allow-folder", folder)]
    running = start_service(
        tmp_path_factory.mktemp("service") / "data", "--servers", "standard=2,premium=1", *options, settings=PATIENT
    )
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
