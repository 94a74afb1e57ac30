"""What commands on 50,000 parts cost, from the batch to the instances on the graphics device.

python -m benchmarks.scene [PARTS]

Times are the least of several runs, in milliseconds. "batch": until the renderer's scene has it; "device": until the
instances on the device have it, and it is chosen what the next picture draws, less what choosing takes anyhow. The
adapter is the CPU's where there is one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Node, Part
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError
from farframe.protocol.records import FieldOfView, View
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.scene.states import State
from farframe.server.scene_world import SceneWorld, model_tree

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


def main(count: int) -> None:
    """Measure and print."""
    try:
        engine = Engine.create("cpu")
    except FarframeError:
        engine = Engine.create("auto")
    model = grid(count)
    drawn = RenderScene()
    world = SceneWorld(drawn)
    start = time.perf_counter()
    tree = model_tree(model)
    resource = engine.upload(model)
    entry = world.add_model(drawn.add(resource, np.eye(4)), tree)
    print(f"{count} parts, {entry.count} entities: made in {(time.perf_counter() - start) * 1e3:.0f} ms")
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
    for name, work in cases:
        batch = least(work)

        def both(number: int, work: Callable[[int], None] = work) -> None:
            work(number)
            engine.count_visible(frame)

        print(f"{name:24}{batch:8.1f}{max(0.0, least(both) - plain - batch):8.1f}")
        work(1)
    engine.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
