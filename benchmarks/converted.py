"""``builtin://Engine`` as the product converts it: what a service's users load, and what benchmarks draw.

Converting takes some seconds and two cores, so the asset is kept in a folder of temporary files, under a name that
changes with the code that made it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "farframe"


def converted_engine() -> Path:
    """The converted engine; built at the first call, in a process of its own. Raises ``CalledProcessError``."""
    digest = hashlib.sha256()
    for path in sorted([*(SOURCE / "asset").rglob("*.py"), *(SOURCE / "convert").rglob("*.py")]):
        digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"farframe-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    path = folder / f"engine-{digest.hexdigest()[:16]}.arrAsset"
    if not path.exists():
        for old in folder.glob("engine-*.arrAsset"):
            old.unlink()
        subprocess.run([sys.executable, "-m", "benchmarks.converted", str(path)], check=True)
    return path


def main(target: Path) -> None:
    """Build the engine and convert it into ``target``, which appears when it is whole."""
    from farframe.asset.builtin_engine import build_engine
    from farframe.convert.build import BuildOptions, build_asset

    build_asset(build_engine(), target, BuildOptions())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
