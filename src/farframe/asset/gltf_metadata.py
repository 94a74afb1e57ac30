"""What the file says about its nodes beside what is drawn of them: the members of their ``extras``.

Kept is what has one value: booleans, numbers and text. Lists and objects are left out before anything is built of them,
so that a hostile file costs no more than its bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from farframe.asset.gltf_reading import Step
from farframe.asset.model import MetadataValue

MAX_KEY_LENGTH = 256
"""Characters of a key; values with longer ones are left out."""

MAX_TEXT_LENGTH = 4_096
"""Characters of a text that are kept."""

MAX_NODE_VALUES = 1_000
MAX_NODE_BYTES = 1024**2
"""JSON of one node that is looked into."""

MAX_MODEL_BYTES = 16 * 1024**2
"""Keys and values of a whole model, as JSON: the server keeps them as long as the model."""

BYTES_PER_JSON_BYTE = 40
"""What members take in memory while they are looked at, at most: each has a key and a slice of its own."""

MAX_INTEGER_BITS = 63
"""Integers that are larger are kept as numbers with a fraction, as most readers of JSON have them."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder(bool | int | float | str)
_SINGLE = frozenset(b'"-0123456789tf')
"""What a value begins with that is neither a list nor an object nor nothing."""


class MetadataReader(Step):
    """Reads the ``extras`` of nodes."""

    def read(
        self, file_nodes: list[int], keeps: Callable[[str], bool] | None = None
    ) -> dict[int, dict[str, MetadataValue]]:
        """Keys and values by the place of a node in ``file_nodes``, which are the nodes' indices in the file.

        ``keeps`` says which keys are wanted; all, without it. What passes the limits is left out with a warning.
        """
        found: dict[int, dict[str, MetadataValue]] = {}
        left = MAX_MODEL_BYTES
        for place, index in enumerate(file_nodes):
            raw = memoryview(self._document.nodes[index].extras)
            if not raw:
                continue
            if len(raw) > MAX_NODE_BYTES:
                self._warn(f"The extras of a node with more than {MAX_NODE_BYTES:,} bytes of them are left out.")
                continue
            working = len(raw) * BYTES_PER_JSON_BYTE
            self._budget.take_bytes(working, "its nodes' extras")
            values, size = self._values(raw, keeps)
            self._budget.give_bytes(working)
            left -= size
            if left < 0:
                self._warn(f"Extras beyond {MAX_MODEL_BYTES:,} bytes are left out.")
                break
            self._budget.take_bytes(size * 4, "its nodes' extras")
            if values:
                found[place] = values
        return found

    def _values(self, raw: memoryview, keeps: Callable[[str], bool] | None) -> tuple[dict[str, MetadataValue], int]:
        """What is kept of one node's ``extras``, and how much JSON it was."""
        try:
            members = _members.decode(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return {}, 0  # no object: of no meaning here
        values: dict[str, MetadataValue] = {}
        size = 0
        for key, coded in members.items():
            told = memoryview(coded)
            if told[0] not in _SINGLE or len(key) > MAX_KEY_LENGTH or (keeps is not None and not keeps(key)):
                continue
            if len(values) == MAX_NODE_VALUES:
                self._warn(f"Extras beyond {MAX_NODE_VALUES:,} of one node are left out.")
                break
            try:
                value: MetadataValue = _value.decode(told)
            except (msgspec.MsgspecError, ValueError):
                continue  # a number that is none, or has more digits than anybody reads
            if isinstance(value, str):
                value = value[:MAX_TEXT_LENGTH]
            elif isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
                value = float(value)
            values[key] = value
            size += len(msgspec.json.encode({key: value}))
        return values, size
