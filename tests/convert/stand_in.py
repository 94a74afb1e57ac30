"""What tests put in place of the conversion: a worker whose input says how it behaves. Run as a module, it is one.

The first word of the input is what it does; everything else about the worker is real.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from farframe.convert import job, worker
from farframe.convert.errors import INPUT_NOT_VALID, ConversionFailed

WORKER = (sys.executable, "-m", "tests.convert.stand_in")
JOB = (*WORKER, "job")
NO_THUMBNAIL = (sys.executable, "-c", "raise SystemExit('none')")


def convert(folder: Path, relative: str, output: Path, name: str, limits: Any, progress: Any) -> None:
    """Do what the file says."""
    words = (folder / relative).read_bytes().split(b" ")
    text = " ".join(word.decode() for word in words[:3])
    asset = output / f"{name}.arrAsset"
    match text.split():
        case ["good", *_]:
            for step in range(5):
                progress("building", step / 5)
            asset.write_bytes(b"asset of " + b" ".join(words))
            (output / f"{name}.info.json").write_text("{}")
            print("converted", relative)
        case ["slow", flag, *_]:
            # Goes on when a file outside says so, which the sandbox can still see: it is below the input.
            with Path(output, "attempts").open("a") as file:
                file.write("x")
            while not (folder / flag).exists():
                progress("building", 0.5)
                time.sleep(0.02)
            asset.write_bytes(b"slow")
        case ["broken", *_]:
            asset.write_bytes(b"partial")
            raise ConversionFailed(INPUT_NOT_VALID, details={"import error": "It is broken."})
        case ["memory", *_]:
            held = []
            while True:
                held.append(bytearray(os.urandom(1024)) * 16_384)
        case ["memory-in-children", *_]:
            for _ in range(16):
                if os.fork() == 0:
                    os.setsid()
                    held = [bytearray(os.urandom(1024)) * 48_000]
                    time.sleep(600)
            time.sleep(600)
        case ["disk", *_]:
            with asset.open("wb") as file:
                while True:
                    file.write(os.urandom(1024 * 1024))
        case ["files", *_]:
            for number in range(10**9):
                (output / f"f{number}").write_bytes(os.urandom(1024 * 1024))
        case ["log", *_]:
            while True:
                print("x" * 10_000)
        case ["loop", *_]:
            while True:
                pass
        case ["crash", *_]:
            os.kill(os.getpid(), 11)
        case ["exit", *_]:
            os._exit(0)
        case ["reach", path, *_]:
            found = []
            for attempt in (
                lambda: Path(path).read_bytes(),
                lambda: (Path(path).parent / "written").write_bytes(b"x"),
                lambda: Path("/etc/farframe-was-here").write_bytes(b"x"),
                _connect,
                lambda: os.kill(os.getppid(), 0) if os.geteuid() else _denied(),
            ):
                try:
                    attempt()
                    found.append("allowed")
                except OSError:
                    found.append("refused")
            asset.write_text(" ".join(found))
        case ["link", path, *_]:
            asset.symlink_to(path)
        case other:
            raise AssertionError(other)


def _connect() -> None:
    import socket

    with socket.create_connection(("127.0.0.1", int(os.environ.get("FARFRAME_TEST_PORT", "9"))), timeout=2):
        pass


def _denied() -> None:
    raise PermissionError


if __name__ == "__main__":
    if sys.argv[1:] == ["job"]:
        job.main(WORKER, NO_THUMBNAIL)
    else:
        worker.main(convert)
