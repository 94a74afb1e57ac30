"""What a scene's commands and features cost.

python -m benchmarks.scene [PARTS]

*Commands* on 50,000 parts, from the batch to the instances on the graphics device: the least of several runs,
milliseconds. "batch": until the renderer's scene has it; "device": until the instances on the device have it, and it is
chosen what the next picture draws, less what choosing takes anyhow.

*Features*, each by itself, on and off in turns: median CPU milliseconds of a frame, all threads of the process, for
``builtin://Engine`` on an orbit at 1280x720, one sample a pixel, one pixel of error. On the adapter of the CPU if there
is one; on a GPU these figures say what the driver's threads take, not the GPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from farframe.asset.builtin_engine import build_engine
from farframe.asset.lod import build_levels
from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Node, Part
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError
from farframe.protocol.records import FieldOfView, View
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.scene.effects import CutPlane, DebugSettings, PlacedCutPlane, ZFightingSettings
from farframe.scene.lights import Light, LightKind, PlacedLight
from farframe.scene.materials import MaterialFlag, MaterialState
from farframe.scene.states import State
from farframe.server.scene_world import SceneWorld, model_tree
from tests.render.shapes import look_at

RUNS = 7
GROUP = 100


def grid(count: int) -> Model:
    """``count`` tetrahedra in a square, in groups of :data:`GROUP` below one node."""
    vertices = np.zeros(4, VERTEX_DTYPE)
    vertices["position"] = [[0, 0.5, 0], [-0.4, -0.3, 0.3], [0.4, -0.3, 0.3], [0, -0.3, -0.4]]
    vertices["normal"][:, :3] = np.rint(vertices["position"] * 200).clip(-127, 127)
    vertices["color"] = 255
    indices = np.array([0, 1, 2, 0, 2, 3, 0, 3, 1, 1, 3, 2], np.uint32)
    side = int(np.ceil(np.sqrt(count)))
    places = np.stack(np.divmod(np.arange(count), side), axis=1) - side / 2
    nodes = [Node("all", -1, np.eye(4))]
    nodes += [Node(f"group {number}", 0, np.eye(4)) for number in range(-(-count // GROUP))]
    first = len(nodes)
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, 0, 3], matrices[:, 2, 3] = places[:, 0], places[:, 1]
    nodes += [Node(f"part {number}", 1 + number // GROUP, matrices[number]) for number in range(count)]
    part = Part(0, 4, (Level(0, 12, 0.0),), 0, (-0.4, -0.3, -0.4), (0.4, 0.5, 0.3))
    return Model(
        name="grid",
        vertices=vertices,
        indices=indices,
        parts=[part],
        materials=[Material(base_color=(0.4, 0.5, 0.6, 1.0), metallic=0.0, roughness=0.5)],
        textures=[],
        nodes=nodes,
        instance_part=np.zeros(count, np.int32),
        instance_node=np.arange(first, first + count, dtype=np.int32),
        instance_matrix=matrices,
        bounds_min=(-side / 2, -0.3, -side / 2),
        bounds_max=(side / 2, 0.5, side / 2),
    )


def least(work: Callable[[int], None]) -> float:
    """Milliseconds of the fastest of :data:`RUNS` calls; ``work`` gets the number of the call."""
    best = float("inf")
    for number in range(RUNS):
        start = time.perf_counter()
        work(number)
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def commands(engine: Engine, count: int) -> dict[str, Any]:
    """Milliseconds of each command on a scene of ``count`` parts."""
    model = grid(count)
    drawn = RenderScene()
    world = SceneWorld(drawn)
    start = time.perf_counter()
    tree = model_tree(model)
    resource = engine.upload(model)
    entry = world.add_model(drawn.add(resource, np.eye(4)), tree)
    made = (time.perf_counter() - start) * 1e3
    print(f"{count} parts, {entry.count} entities: made in {made:.0f} ms")
    side = np.sqrt(count)
    field = FieldOfView.symmetric(0.8, 16 / 9)
    view = View((0.0, 1.1 * side, 0.01), (-0.7071, 0.0, 0.0, 0.7071), field, 1.0, 10.0 * side)
    frame = FrameInput((view,), 960, 540, Quality(samples=1), drawn)

    engine.render(frame).release()
    plain = least(lambda _: engine.count_visible(frame) and None)
    print(f"choosing what to draw, without a change: {plain:.1f} ms")
    parts = np.arange(entry.first + entry.count - count, entry.first + entry.count)
    half = np.random.default_rng(1).permutation(parts)[: count // 2]
    positions = world.graph.position[world.graph.slots(half)]

    def states(ids: np.ndarray, on: State, off: State, tint: wire.Vector4 | None = None) -> list[wire.Command]:
        return [wire.SetStates(ids=wire.pack(ids, "u4"), on=int(on), off=int(off), tint=tint)]

    def flip(state: State, ids: np.ndarray, tint: wire.Vector4 | None = None) -> Callable[[int], None]:
        return lambda number: (
            world.apply(  # type: ignore[return-value]
                states(ids, *((state, State.NONE) if number % 2 == 0 else (State.NONE, state)), tint)
            )
            and None
        )

    def move(ids: np.ndarray, at: np.ndarray) -> Callable[[int], None]:
        def work(number: int) -> None:
            lifted = at + np.array([0.0, 0.1 * (number % 2), 0.0])
            world.apply([wire.SetTransforms(ids=wire.pack(ids, "u4"), positions=wire.pack(lifted, "f8"))])

        return work

    some, root = half[:1000], np.array([entry.first])
    cases: list[tuple[str, Callable[[int], None]]] = [
        ("hide half, at random", flip(State.HIDDEN, half)),
        ("tint half, at random", flip(State.USE_TINT_COLOR, half, (1.0, 0.2, 0.0, 0.5))),
        ("hide all by the root", flip(State.HIDDEN, root)),
        ("tint all by the root", flip(State.USE_TINT_COLOR, root, (1.0, 0.2, 0.0, 0.5))),
        ("move 1,000", move(some, positions[:1000])),
        ("move half", move(half, positions)),
        ("move all by the root", move(root, np.zeros((1, 3)))),
    ]
    print(f"{'':24}{'batch':>8}{'device':>8}   ms")
    figures: dict[str, Any] = {"parts": count, "made_ms": round(made, 1), "choose_ms": round(plain, 2)}
    for name, work in cases:
        batch = least(work)

        def both(number: int, work: Callable[[int], None] = work) -> None:
            work(number)
            engine.count_visible(frame)

        device = max(0.0, least(both) - plain - batch)
        print(f"{name:24}{batch:8.1f}{device:8.1f}")
        figures[name] = {"batch_ms": round(batch, 2), "device_ms": round(device, 2)}
        work(1)
    drawn.clear()
    engine.release(resource)
    return figures


class Feature(NamedTuple):
    """Something that costs: ``on`` and ``off`` change the scene that is drawn."""

    name: str
    on: Callable[[], None]
    off: Callable[[], None]


def features_of(scene: RenderScene, handle: int, size: float) -> list[Feature]:
    """What is measured. ``size``: the model's diagonal, metres."""
    placed = scene.entries[handle]
    everything = np.arange(len(placed.states))
    half = everything[::2]

    def states(rows: np.ndarray, state: State) -> tuple[Callable[[], None], Callable[[], None]]:
        return (
            lambda: scene.update_instances(handle, rows, states=np.full(len(rows), int(state), np.uint32)),
            lambda: scene.update_instances(handle, rows, states=np.zeros(len(rows), np.uint32)),
        )

    def effect(**changes: Any) -> tuple[Callable[[], None], Callable[[], None]]:
        plain = scene.effects
        return lambda: setattr(scene, "effects", replace(plain, **changes)), lambda: setattr(scene, "effects", plain)

    def lights(kind: LightKind, count: int) -> tuple[Callable[[], None], Callable[[], None]]:
        places = np.random.default_rng(count).uniform(-0.7, 0.7, (count, 3)) * size
        light = Light(kind, intensity=0.1 * size * size, radius=0.01 * size, attenuation_cutoff=(0.0, 0.6 * size))
        placed_lights = tuple(PlacedLight(light, tuple(place)) for place in places.tolist())
        return lambda: setattr(scene, "lights", placed_lights), lambda: setattr(scene, "lights", ())

    def planes(count: int, **changes: Any) -> tuple[Callable[[], None], Callable[[], None]]:
        turns = np.linspace(0.0, np.pi, count, endpoint=False)
        cuts = tuple(
            PlacedCutPlane(CutPlane(**changes), (float(np.cos(turn)), 0.0, float(np.sin(turn))), 0.1 * size)
            for turn in turns
        )
        return lambda: setattr(scene, "cut_planes", cuts), lambda: setattr(scene, "cut_planes", ())

    def material(rows: np.ndarray, state: MaterialState) -> tuple[Callable[[], None], Callable[[], None]]:
        number = max(scene.materials, default=0) + 1
        scene.set_material(number, state)
        return (
            lambda: scene.update_instances(handle, rows, material=np.full(len(rows), number, np.uint32)),
            lambda: scene.update_instances(handle, rows, material=np.zeros(len(rows), np.uint32)),
        )

    tint = np.tile(np.array([1.0, 0.3, 0.0, 0.5], np.float32), (len(half), 1))
    glass = MaterialState(
        flags=MaterialFlag.TRANSPARENT | MaterialFlag.SPECULAR_HIGHLIGHTS,
        albedo_color=(0.5, 0.7, 0.9, 0.4),
        roughness=0.1,
    )
    glow = MaterialState(flags=MaterialFlag.FRESNEL_EFFECT | MaterialFlag.SPECULAR_HIGHLIGHTS, roughness=0.5)
    return [
        Feature("selected: one part outlined", *states(everything[:1], State.SELECTED)),
        Feature("selected: half of the parts", *states(half, State.SELECTED)),
        Feature(
            "tint: half",
            lambda: scene.update_instances(handle, half, tint=tint),
            lambda: scene.update_instances(handle, half, tint=np.zeros_like(tint)),
        ),
        Feature("see-through: half", *states(half, State.SEE_THROUGH)),
        Feature("shell: half", *states(half, State.SHELL)),
        Feature("one cut plane", *planes(1)),
        Feature("one cut plane, capped", *planes(1, capped=True)),
        Feature("eight cut planes, faded", *planes(8, fade_color=(1.0, 0.2, 0.0, 1.0), fade_length=0.05 * size)),
        Feature("eight cut planes, capped", *planes(8, capped=True)),
        Feature("z-fighting mitigation off", *effect(z_fighting=ZFightingSettings(enabled=False))),
        Feature("z-fighting highlighted", *effect(z_fighting=ZFightingSettings(highlighting=True))),
        Feature("one point light", *lights(LightKind.POINT, 1)),
        Feature("16 point lights", *lights(LightKind.POINT, 16)),
        Feature("64 spot lights", *lights(LightKind.SPOT, 64)),
        Feature("another material: half", *material(half, MaterialState(roughness=0.4))),
        Feature("fresnel effect: half", *material(half, glow)),
        Feature("transparent: half", *material(half, glass)),
        Feature("fade out: half", *material(half, MaterialState(roughness=0.4, fade_out=0.5))),
        Feature(
            "fade to black: half",
            *material(half, MaterialState(flags=MaterialFlag.FADE_TO_BLACK, roughness=0.4, fade_out=0.5)),
        ),
        Feature("texture moved: half", *material(half, MaterialState(roughness=0.4, texcoord_offset=(0.1, 0.0)))),
        Feature("frame and polygon counters", *effect(debug=DebugSettings(frame_count=True, polygon_count=True))),
        Feature("wireframe", *effect(debug=DebugSettings(wireframe=True))),
        Feature("edges", *effect(debug=DebugSettings(edges=True))),
    ]


def features(engine: Engine, frames: int) -> dict[str, Any]:
    """CPU milliseconds of a frame with and without each feature."""
    model = build_levels(build_engine())
    low, high = np.array(model.bounds_min), np.array(model.bounds_max)
    center, size = (low + high) / 2, float(np.linalg.norm(high - low))
    resource = engine.upload(model)
    scene = RenderScene()
    matrix = np.eye(4)
    matrix[:3, 3] = -center
    handle = scene.add(resource, matrix)
    figures: dict[str, Any] = {}
    print(f"{'':32}{'off':>8}{'on':>8}{'ratio':>8}   CPU ms a frame")
    for feature in features_of(scene, handle, size):
        spent: tuple[list[float], list[float]] = ([], [])
        for index in range(frames + 2):
            for which, change in ((0, feature.off), (1, feature.on)):
                change()
                angle = 0.8 + index * 0.05
                eye = 1.5 * size * np.array([np.sin(angle), 0.35, np.cos(angle)])
                view = look_at(eye, (0, 0, 0), near=size * 0.01, far=size * 10)
                quality = Quality(samples=1, pixel_error=1.0)
                # The first picture after a change writes instances and makes pipelines; the second is what it costs.
                for measured in (False, True):
                    start = time.process_time()
                    engine.render(FrameInput((view,), 1280, 720, quality, scene)).release()
                    if measured and index >= 2:
                        spent[which].append((time.process_time() - start) * 1e3)
        feature.off()
        off, on = (float(np.median(values)) for values in spent)
        figures[feature.name] = {"off_ms": round(off, 1), "on_ms": round(on, 1), "ratio": round(on / off, 2)}
        print(f"{feature.name:32}{off:8.1f}{on:8.1f}{on / off:8.2f}", flush=True)
    scene.clear()
    engine.release(resource)
    return figures


def run(quick: bool = False, count: int = 50_000) -> dict[str, Any]:
    """Measure, print, return the figures."""
    try:
        engine = Engine.create("cpu")
    except FarframeError:
        engine = Engine.create("auto")
    try:
        return {"commands": commands(engine, count), "features": features(engine, 4 if quick else 15)}
    finally:
        engine.close()


if __name__ == "__main__":
    run(count=int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
