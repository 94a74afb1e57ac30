"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models_folder() -> Path:
    """The folder of real model files. Set FARFRAME_TEST_MODELS to run the tests that need it."""
    value = os.environ.get("FARFRAME_TEST_MODELS")
    if not value:
        pytest.skip("set FARFRAME_TEST_MODELS to a folder of real model files to run this test")
    folder = Path(value)
    assert folder.is_dir(), f"FARFRAME_TEST_MODELS names {folder}, which is not a folder"
    return folder
