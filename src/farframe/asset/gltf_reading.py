"""What the steps of reading one glTF file have in common: the file, its limits, what is to be warned of."""

from __future__ import annotations

from dataclasses import dataclass, field

from farframe.asset.budget import Budget, Progress
from farframe.asset.gltf_source import GltfSource
from farframe.protocol.link import LoadLimits

MAX_NAME_LENGTH = 1_024


@dataclass(slots=True)
class Reading:
    """One file that is read."""

    source: GltfSource
    budget: Budget
    limits: LoadLimits
    progress: Progress
    warnings: dict[str, None] = field(default_factory=dict)
    """Each once, in order."""


class Step:
    """A part of the reading. Used once."""

    def __init__(self, reading: Reading) -> None:
        self._source = reading.source
        self._document = reading.source.document
        self._budget = reading.budget
        self._limits = reading.limits
        self._progress = reading.progress
        self._warnings = reading.warnings

    def _warn(self, message: str) -> None:
        self._warnings.setdefault(message)


def clean_name(name: str) -> str:
    """A name from the file, cut where it is too long to be one."""
    return name[:MAX_NAME_LENGTH]


def shown(text: str) -> str:
    """Text from the file, short enough for an error message."""
    return ascii(text if len(text) <= 80 else text[:80] + "...")
