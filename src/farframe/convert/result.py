"""``N.result.json``: how a conversion ended, always written. An array of objects, as applications of ARR know it:

    [{"conversionId": "..."},
     {"warning": "4004", "title": "Missing texture", "details": {"texture": "a.png", "material": "wood"}},
     {"error": "2007", "title": "The input asset is not valid.", "details": {"import error": "..."}},
     {"result": "failed"}]

There is one ``result`` always (``succeeded``, ``succeeded with warnings`` or ``failed``) and one ``error`` at most, for
which ``internal error`` stands when the fault is not the input's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from farframe.convert.errors import INTERNAL, OUTPUT_NOT_WRITTEN, ConversionFailed, ConversionWarning

MAX_WARNINGS = 1_000
MAX_DETAIL_LENGTH = 2_000


def result_entries(
    conversion_id: str, warnings: Sequence[ConversionWarning], failure: ConversionFailed | None
) -> list[dict[str, Any]]:
    """The result file's contents."""
    entries: list[dict[str, Any]] = [{"conversionId": conversion_id}]
    for warning in warnings[:MAX_WARNINGS]:
        entries.append({"warning": warning.code, "title": warning.title, "details": _details(warning.details)})
    if len(warnings) > MAX_WARNINGS:
        more = ConversionWarning.left_out(f"{len(warnings) - MAX_WARNINGS:,} further warnings are not listed.")
        entries.append({"warning": more.code, "title": more.title, "details": more.details})
    if failure is not None:
        kind = "internal error" if failure.code in (INTERNAL, OUTPUT_NOT_WRITTEN) else "error"
        entries.append({kind: failure.code, "title": failure.title, "details": _details(failure.details)})
    ended = "failed" if failure is not None else "succeeded with warnings" if warnings else "succeeded"
    return [*entries, {"result": ended}]


def write_result(
    folder: Path,
    base_name: str,
    conversion_id: str,
    warnings: Sequence[ConversionWarning] = (),
    failure: ConversionFailed | None = None,
) -> Path:
    """Write ``<base_name>.result.json`` into ``folder``; it is there whole or not at all. Returns its path."""
    return write_json(folder / f"{base_name}.result.json", result_entries(conversion_id, warnings, failure))


def write_json(path: Path, contents: Any) -> Path:
    """Write ``contents`` as JSON for people, under another name first."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(contents), indent=2) + b"\n")
    return temporary.replace(path)


def _details(details: dict[str, str]) -> dict[str, str]:
    return {
        key[:MAX_DETAIL_LENGTH]: text if len(text) <= MAX_DETAIL_LENGTH else text[:MAX_DETAIL_LENGTH] + "..."
        for key, text in details.items()
    }
