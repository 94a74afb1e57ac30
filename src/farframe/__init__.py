"""Farframe: open, self-hosted remote rendering."""

__version__ = "0.1.0"
