"""Converting a model that is drawn already: ``python -m farframe.convert.background``, one process a model.

Reads one :class:`BackgroundOrder` as a JSON line on standard input: a flat file (:mod:`farframe.asset.flat`) and where
its asset is to be. The process is of low priority, works on one core and confines itself before it looks at the model.
It ends with exit code 0 when the asset is whole, with 3 when the model cannot be converted within its limits. Standard
error is the log. It ends with its parent.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import msgspec

from farframe.asset.flat import read_flat
from farframe.convert.build import BuildOptions, build_asset
from farframe.convert.sandbox import Bounds, confine, die_with
from farframe.protocol.errors import FarframeError
from farframe.protocol.link import LoadLimits

NICENESS = 10
EXIT_REFUSED = 3
BUILD_BYTES = 1 << 30
"""What the build aims at, about; the limit holds in any case."""


class BackgroundOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to convert (``source``, a flat file) and to where; only files beside ``asset`` may be written."""

    source: str
    asset: str
    limits: LoadLimits
    parent: int


def main() -> None:
    """Do the one order on standard input."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=BackgroundOrder)
    die_with(order.parent)
    source, asset = Path(order.source), Path(order.asset)
    os.chdir(asset.parent)
    os.environ["TMPDIR"] = str(asset.parent)
    os.nice(NICENESS)
    limits = order.limits
    confine(
        Bounds(limits.max_memory_bytes, limits.max_memory_bytes, limits.max_seconds),
        readable=[source.parent],
        writable=[asset.parent],
    )
    try:
        run(source, asset, limits)
    except (FarframeError, OSError, MemoryError) as error:
        print(f"The model is not converted: {error!r}", file=sys.stderr, flush=True)
        os._exit(EXIT_REFUSED)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def run(source: Path, asset: Path, limits: LoadLimits) -> None:
    """Convert the flat file ``source`` to ``asset``, in this process. Raises what reading and building raise."""
    # Coding textures costs more than all the rest; they are on the adapter in full already.
    memory = min(BUILD_BYTES, limits.max_memory_bytes // 2)
    build_asset(read_flat(source), asset, BuildOptions(workers=1, memory_bytes=memory, compress_textures=False))


if __name__ == "__main__":
    main()
