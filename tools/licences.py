"""Write docs/licences.md: every package that Farframe needs at run time, its version and its licence.

python tools/licences.py          write
python tools/licences.py --check  fail if the page lacks a package or a licence is not allowed
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "licences.md"
ALLOWED = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python Software|MPL|Mozilla|HPND|Zlib|Unlicense|0BSD|CC0", re.IGNORECASE)
FORBIDDEN = re.compile(r"\b(A?GPL|LGPL|SSPL|BUSL)", re.IGNORECASE)
MISSING = {"archspec": "Apache-2.0 OR MIT", "meshoptimizer": "MIT", "rendercanvas": "BSD-2-Clause", "ufbx": "MIT"}
"""Packages whose metadata name none, or none of a known name; read in their sources."""

NOTES = """
## What the wheels carry

* `av` (PyAV, BSD-3) carries FFmpeg built with x264, which is under the GPL 2 or later. Farframe calls it through PyAV
  and contains none of it; whoever redistributes an image with these binaries must follow their terms. x264 is needed
  for video on machines without a hardware encoder.
* H.264 may need a patent licence where you are.
"""


def licence(distribution: metadata.Distribution) -> str:
    """The licence as its package states it, in one line."""
    data = distribution.metadata
    name = data["Name"]
    text = data.get("License-Expression") or ""
    if not text:
        classifiers = [c.split(" :: ")[-1] for c in data.get_all("Classifier") or [] if c.startswith("License ::")]
        text = ", ".join(c for c in classifiers if c not in ("OSI Approved", "Other/Proprietary License"))
    if not text:
        text = (data.get("License") or "").strip().split("\n")[0][:60]
    return MISSING.get(name.lower()) or text


def needed(root: str) -> dict[str, metadata.Distribution]:
    """The distributions that ``root`` needs here, all the way down."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        found[key] = distribution
        for requirement in distribution.requires or []:
            if "extra ==" not in requirement or (key == "sqlalchemy" and "asyncio" in requirement):
                waiting.append(re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0])
    found.pop(root)
    return found


def main() -> int:
    """Write or check the page."""
    rows, bad = [], []
    for key, distribution in sorted(needed("farframe").items()):
        text = licence(distribution)
        if not ALLOWED.search(text) or (FORBIDDEN.search(text) and not ALLOWED.search(text)):
            bad.append(f"{key}: {text or 'no licence stated'}")
        rows.append(f"| {distribution.metadata['Name']} | {text} |")
    page = "# Licences\n\nWhat Farframe needs at run time. Made by `tools/licences.py`.\n\n"
    page += "| package | licence |\n|---|---|\n"
    page += "\n".join(rows) + "\n" + NOTES
    if bad:
        print("Not allowed:", *bad, sep="\n  ", file=sys.stderr)
        return 1
    if "--check" in sys.argv:
        # Which packages are needed differs a little between versions of Python: each must be there, none need be gone.
        written = PAGE.read_text().splitlines() if PAGE.exists() else []
        if not set(rows) <= set(written):
            print("docs/licences.md is not up to date: run python tools/licences.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
