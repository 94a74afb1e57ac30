"""The peers' own virtual environment: made from ``requirements.txt`` on first use, in the user's cache, and kept there.

It takes about two gigabytes. Farframe's environment stays as it is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER = Path(platformdirs.user_cache_dir("farframe", appauthor=False)) / "benchmarks" / "peers"


def python() -> Path:
    """The environment's interpreter; installs what is missing."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    done = FOLDER / "installed"
    interpreter = FOLDER / "venv" / "bin" / "python"
    if done.is_file() and done.read_text() == wanted and interpreter.exists():
        return interpreter
    print(f"Installing what is compared with into {FOLDER}", flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise RuntimeError("uv is not installed: run ./dev setup")
    if not interpreter.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, FOLDER / "venv"], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", interpreter, "--requirement", REQUIREMENTS], check=True
    )
    # Open3D is linked with libusb, for cameras that nobody uses here.
    libraries = FOLDER / "lib"
    libraries.mkdir(exist_ok=True)
    library = next((FOLDER / "venv").glob("lib/python*/site-packages/libusb_package/libusb-1.0.so*"))
    link = libraries / "libusb-1.0.so.0"
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    done.write_text(wanted)
    return interpreter


def variables(port: int) -> dict[str, str]:
    """A server's environment: no display, nothing from outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DISPLAY", "PYTHONPATH", "PYTHONHOME"} and not name.startswith("FARFRAME_")
    }
    return kept | {
        "LD_LIBRARY_PATH": str(FOLDER / "lib"),
        "WEBRTC_IP": "127.0.0.1",
        "WEBRTC_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
