"""Where Farframe keeps its data when nobody says otherwise: the one answer for the service, the client and the cli."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

DATA_VARIABLE = "FARFRAME_DATA_DIR"
"""Environment variable that moves the data folder."""

CONNECTION_FILE_NAME = "connection.json"
OPERATOR_FILE_NAME = "operator.json"


def default_data_dir() -> Path:
    """The data folder: ``FARFRAME_DATA_DIR``, else the user's data folder of this platform. It need not exist."""
    value = os.environ.get(DATA_VARIABLE)
    if value:
        return Path(value).expanduser()
    return Path(platformdirs.user_data_dir("farframe", appauthor=False))


def connection_file_of(data_dir: Path) -> Path:
    """The connection file that a service writes into its data folder while it runs."""
    return data_dir / CONNECTION_FILE_NAME


def operator_file_of(data_dir: Path) -> Path:
    """The file beside it with which operators manage accounts."""
    return data_dir / OPERATOR_FILE_NAME
