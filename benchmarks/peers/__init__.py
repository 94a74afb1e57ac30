"""Farframe beside its open peers: same model, camera path, picture size and machine, in one run.

It runs the peers' servers as processes of their own environment and looks at all of them through headless Chromium.
Nothing here is imported by Farframe.
"""

from benchmarks.peers.compare import run

__all__ = ["run"]
