"""``farframe up``: options become environment variables, and this process becomes the service."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from farframe.cli._context import CommandError
from farframe.paths import DATA_VARIABLE

SERVICE = "farframe.service"


def environment_of(
    *,
    data: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    http_port: int | None = None,
    region: str | None = None,
    servers: str | None = None,
    public_name: str | None = None,
    public_addresses: Sequence[str] = (),
    config: Path | None = None,
    allow_folders: Sequence[Path] = (),
    adapter: str | None = None,
    keep_sessions: bool = False,
    resume_grace: float | None = None,
    log_json: bool = False,
    debug: bool = False,
) -> dict[str, str]:
    """The variables that say the same to the service. Paths become absolute. Raises CommandError."""
    for folder in allow_folders:
        if not folder.is_dir():
            raise CommandError(f"{folder} is not a folder. Name a folder that exists with --allow-folder.")
        if "," in str(folder.resolve()):
            # The variable separates folders by commas.
            raise CommandError(f"{folder} has a comma in its path. Put it into allowed_folders of a --config file.")
    if config is not None and not config.is_file():
        raise CommandError(f"There is no config file {config}. Name a TOML file with --config.")
    values = {
        DATA_VARIABLE: None if data is None else str(data.expanduser().resolve()),
        "FARFRAME_HOST": host,
        "FARFRAME_PORT": None if port is None else str(port),
        "FARFRAME_HTTP_PORT": None if http_port is None else str(http_port),
        "FARFRAME_REGION": region,
        "FARFRAME_SERVERS": servers,
        "FARFRAME_PUBLIC_NAME": public_name,
        "FARFRAME_PUBLIC_ADDRESSES": ",".join(public_addresses) or None,
        "FARFRAME_CONFIG": None if config is None else str(config.resolve()),
        "FARFRAME_ALLOWED_FOLDERS": ",".join(str(folder.resolve()) for folder in allow_folders) or None,
        "FARFRAME_ADAPTER": adapter,
        "FARFRAME_KEEP_SESSIONS": "true" if keep_sessions else None,
        "FARFRAME_RESUME_GRACE_SECONDS": None if resume_grace is None else f"{resume_grace:g}",
        "FARFRAME_LOG_FORMAT": "json" if log_json else None,
        "FARFRAME_LOG_LEVEL": "debug" if debug else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def exec_service(
    *,
    data: Path | None,
    host: str | None,
    port: int | None,
    http_port: int | None,
    region: str | None,
    servers: str | None,
    public_name: str | None,
    public_addresses: Sequence[str],
    config: Path | None,
    allow_folders: Sequence[Path],
    adapter: str | None,
    keep_sessions: bool,
    resume_grace: float | None,
    log_json: bool,
    debug: bool,
) -> None:
    """Become the service. Does not return."""
    environment = environment_of(
        data=data,
        host=host,
        port=port,
        http_port=http_port,
        region=region,
        servers=servers,
        public_name=public_name,
        public_addresses=public_addresses,
        config=config,
        allow_folders=allow_folders,
        adapter=adapter,
        keep_sessions=keep_sessions,
        resume_grace=resume_grace,
        log_json=log_json,
        debug=debug,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", SERVICE], {**os.environ, **environment})  # noqa: S606
