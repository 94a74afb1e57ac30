"""``python -m farframe.cli`` is the ``farframe`` command."""

from __future__ import annotations

import sys

from farframe.cli import main

if __name__ == "__main__":
    sys.exit(main())
