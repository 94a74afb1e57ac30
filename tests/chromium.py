"""Where the browser tests find Chromium, and how they start it: headless, and silent towards the outside."""

from __future__ import annotations

import os
from pathlib import Path

CHROMIUM = Path(os.environ.get("FARFRAME_TEST_CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
