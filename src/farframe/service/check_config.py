"""``python -m farframe.service.check_config [FILE]``: is the configuration good, and what does it come to?

Reads the file, or the one that ``FARFRAME_CONFIG`` names, and the environment, as a service started here would, and
starts nothing. Exit status 0 if a service would take it, 2 if not.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from farframe.service.config import CONFIG_KEYS, ConfigError, ServiceConfig, environment_name, load_config

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^:/@\s]*):[^@/\s]*@")
_SECRET_KEY = re.compile(r"(secret|password|credentials)")


def takes(key: str) -> str:
    """What a key takes, in words.

    >>> takes("log_format")
    'one of auto, console, json'
    """
    hint = get_type_hints(ServiceConfig)[key]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return "a list of texts"
    if get_origin(hint) is dict:
        return "a table of names and " + ("whole numbers" if get_args(hint)[1] is int else "texts")
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(hint, "a text")


def advice(message: str) -> str:
    """A configuration error with what the key in it takes, and where that is described."""
    for key in sorted(CONFIG_KEYS, key=len, reverse=True):
        if re.search(rf"\b{key}\b", message):
            return (
                f"{message} The key {key} (variable {environment_name(key)}) takes {takes(key)}; "
                "docs/configuration.md describes it."
            )
    return message


def effective(config: ServiceConfig) -> list[str]:
    """The settings that differ from the defaults, as TOML would say them, secrets left out."""
    default = ServiceConfig()
    lines = []
    for key in CONFIG_KEYS:
        value: Any = getattr(config, key)
        if value == getattr(default, key):
            continue
        if _SECRET_KEY.search(key):
            value = "***"
        elif isinstance(value, str):
            value = _PASSWORD_IN_URL.sub(r"\1:***@", value)
        lines.append(f"{key} = {msgspec.json.encode(value).decode()}")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Check; print the outcome."""
    if len(arguments) > 1:
        print("farframe: name one file at most.", file=sys.stderr)
        return 2
    try:
        config = load_config(os.environ, file=Path(arguments[0]) if arguments else None)
    except ConfigError as error:
        print(f"farframe: {advice(str(error))}", file=sys.stderr)
        return 2
    changed = effective(config)
    print(
        "The configuration is good." + (" Other than by default:" if changed else " All settings have their defaults.")
    )
    for line in changed:
        print(f"    {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
