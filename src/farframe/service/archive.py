"""``python -m farframe.service.archive backup|restore FILE``: the store as one file, and back.

Finds the database as a service started here would, by the same settings. A backup may be made while services run. A
restore wants an empty database and, where that is a file, a data folder that no service runs on; so it also moves a
store from SQLite to PostgreSQL or back. Exit status 0, 1 if it failed, 2 if the configuration is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from farframe.service.clock import SystemClock
from farframe.service.config import ConfigError, load_config
from farframe.service.identity import DATABASE_NAME, DataFolderLock, StartError, prepare_folder
from farframe.store.archive import read_archive, write_archive
from farframe.store.database import StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do it; returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="farframe.service.archive", description=__doc__)
    parser.add_argument("direction", choices=("backup", "restore"))
    parser.add_argument("file", type=Path)
    parsed = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        config = load_config(os.environ)
        local = config.data_path / DATABASE_NAME
        place: Path | str = config.database_url or local
        if parsed.direction == "backup":
            if not config.database_url and not local.exists():
                raise StoreError(f"There is no database {local}. Name the data folder with --data.")
            rows = asyncio.run(write_archive(place, parsed.file, SystemClock().now()))
            print(f"{rows} rows written to {parsed.file}. It holds signing keys: keep it as safe as the database.")
            return 0
        with contextlib.ExitStack() as stack:
            if not config.database_url:
                prepare_folder(config.data_path)
                stack.callback(DataFolderLock(config.data_path).release)
            rows = asyncio.run(read_archive(parsed.file, place))
        print(f"{rows} rows restored from {parsed.file}.")
    except ConfigError as error:
        print(f"farframe: {error}", file=sys.stderr)
        return 2
    except (StoreError, StartError) as error:
        print(f"farframe: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"farframe: {error.filename or parsed.file}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
