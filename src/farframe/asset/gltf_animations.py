"""The animations of a glTF file's nodes. Weights of morph targets, and pointers to other things, are left out."""

from __future__ import annotations

import numpy as np

from farframe.asset.animation import (
    CUBIC,
    LINEAR,
    MAX_BYTES,
    MAX_CLIPS,
    ROTATION,
    SCALE,
    STEP,
    TRANSLATION,
    Animations,
    Clip,
    check_clip,
)
from farframe.asset.gltf_reading import Step, clean_name
from farframe.asset.gltf_source import corrupt

_PATHS = {"translation": TRANSLATION, "rotation": ROTATION, "scale": SCALE}
_MODES = {"STEP": STEP, "LINEAR": LINEAR, "CUBICSPLINE": CUBIC}
_BYTES_PER_KEY = 24


class AnimationReader(Step):
    """Reads the animations of the nodes that are shown."""

    def read(self, file_nodes: list[int]) -> Animations | None:
        """The animations; ``file_nodes`` are the indices in the file of the model's nodes. ``None`` for none."""
        place_of = {index: place for place, index in enumerate(file_nodes)}
        rows: dict[int, int] = {}
        clips: list[Clip] = []
        room = MAX_BYTES
        for number in range(len(self._document.animations)):
            clip = self._clip(number, place_of, rows)
            if clip is None:
                continue
            room -= clip.values.nbytes + clip.times.nbytes + _BYTES_PER_KEY * len(clip.row)
            if room < 0 or len(clips) == MAX_CLIPS:
                self._warn("Animations are left out: there are too many, or they have too many keys.")
                break
            clips.append(clip)
        if not clips:
            return None
        nodes = [self._document.nodes[file_nodes[place]] for place in rows]
        rest = np.array(
            [
                [
                    *(node.translation or (0.0, 0.0, 0.0)),
                    *(node.rotation or (0.0, 0.0, 0.0, 1.0)),
                    *(node.scale or (1.0, 1.0, 1.0)),
                ]
                for node in nodes
            ]
        ).reshape(-1, 10)
        if not np.isfinite(rest).all() or (np.abs(rest[:, 3:7]).max(axis=1) <= 1e-15).any():
            corrupt("An animated node has a transform that is none.")
        return Animations(np.array(list(rows), np.int32), rest, clips)

    def _clip(self, number: int, place_of: dict[int, int], rows: dict[int, int]) -> Clip | None:
        animation = self._document.animations[number]
        where = f"$.animations[{number}]"
        seen: set[tuple[int, int]] = set()
        columns: list[tuple[int, int, int]] = []
        all_times, all_values, counts = [], [], []
        for place, channel in enumerate(animation.channels):
            path = _PATHS.get(channel.target.path)
            if path is None:
                self._warn(f"Animations of {channel.target.path[:40]!r} are left out.")
                continue
            node = channel.target.node
            if node is None or node not in place_of:
                continue
            if self._document.nodes[node].matrix is not None:
                self._warn("Animations of nodes that have a matrix are left out.")
                continue
            if (node, path) in seen:
                corrupt(f"{where} moves one thing of node {node} twice.")
            seen.add((node, path))
            if channel.sampler >= len(animation.samplers):
                corrupt(f"{where}.channels[{place}] names sampler {channel.sampler}, which does not exist.")
            sampler = animation.samplers[channel.sampler]
            inside = f"{where}.samplers[{channel.sampler}]"
            mode = _MODES[sampler.interpolation]
            times = self._source.floats(sampler.input, (1,), f"{inside}.input")[:, 0]
            values = self._source.floats(sampler.output, (4 if path == ROTATION else 3,), f"{inside}.output")
            if not len(times) or len(values) != len(times) * (3 if mode == CUBIC else 1):
                corrupt(f"{inside} has {len(times)} keys and {len(values)} values.")
            self._budget.take_bytes(times.nbytes + 16 * len(values), "its animations")
            wide = np.zeros((len(values), 4), np.float32)
            wide[:, : values.shape[1]] = values
            columns.append((rows.setdefault(place_of[node], len(rows)), path, mode))
            all_times.append(times)
            all_values.append(wide)
            counts.append(len(times))
        if not columns:
            return None
        row, path_of, mode_of = zip(*columns, strict=True)
        clip = Clip(
            name=clean_name(animation.name) or f"animation {number}",
            duration=float(max(times[-1] for times in all_times)),
            row=np.array(row, np.int32),
            path=np.array(path_of, np.uint8),
            mode=np.array(mode_of, np.uint8),
            first_key=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            times=np.concatenate(all_times).astype(np.float32),
            values=np.concatenate(all_values),
        )
        try:
            check_clip(clip)
        except ValueError:
            corrupt(f"{where} has times that do not grow, or numbers that are none.")
        return clip
