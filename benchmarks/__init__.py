"""Measurements, each a module with ``run(quick: bool) -> dict``: prints what it found and returns it for JSON."""
