"""Transforms that are streamed with poses: each frame shows all that came before its pose, and nothing goes backwards,
whatever the network does to the records and whenever the render thread gets to its jobs."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import numpy as np
import pytest

from farframe.protocol import scene as wire
from farframe.protocol.records import FieldOfView, PoseRecord, View
from farframe.render.scene import RenderScene
from farframe.server.scene_requests import SceneRequests
from farframe.server.scene_world import SceneWorld

VIEW = View((0.0, 0.0, 3.0), (0.0, 0.0, 0.0, 1.0), FieldOfView.symmetric(0.8, 1.5))


class Server:
    """Jobs wait until the render thread gets to them, which may be long after the frame that they came before."""

    def __init__(self) -> None:
        self.scene = RenderScene()
        self.world = SceneWorld(self.scene)
        self.jobs: list[Any] = []
        self.pose: PoseRecord | None = None
        self.known_with_pose = 0
        self.newest_record = 0

    async def run(self, job: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        self.jobs.append((job, future))
        return await future

    def work(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job, future in jobs:
            if not future.done():
                future.set_result(job(self.world))

    def came(self, pose: PoseRecord) -> None:
        """As the frame loop does: the newest counts."""
        if self.pose is None or pose.pose_id > self.pose.pose_id:
            self.pose, self.known_with_pose = pose, self.newest_record

    def shown(self, entity: int) -> float:
        graph = self.world.graph
        return float(graph.world[graph.slot(entity)][0, 3])


def record(number: int) -> bytes:
    position = np.array([[float(number), 0.0, 0.0]])
    return wire.encode_transforms(wire.TransformsRecord(number, np.array([1], np.uint32), position))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(12))
async def test_each_frame_shows_what_came_before_its_pose_and_nothing_goes_back(seed: int) -> None:
    generator = np.random.default_rng(seed)
    server = Server()

    async def forget(handles: list[int]) -> None:
        return None

    requests = SceneRequests(server, forget)  # type: ignore[arg-type]
    server.world.apply([wire.Create(id=1)])
    # Sixty a second for four seconds; each packet takes its own time, and one in five is lost.
    packets: list[tuple[float, int, bytes | PoseRecord]] = []
    for number in range(1, 241):
        sent = number / 60
        for order, packet in enumerate((record(number), PoseRecord(number, 0, (VIEW,)))):
            if generator.random() >= 0.2:
                packets.append((sent + float(generator.exponential(0.02)), order, packet))
    events: list[tuple[float, int, Any]] = [*packets]
    events += [(float(at), 2, "frame") for at in np.cumsum(generator.uniform(0.005, 0.03, 240))]
    events += [(float(at), 3, "jobs") for at in np.cumsum(generator.uniform(0.005, 0.08, 80))]
    events.sort(key=lambda event: event[:2])
    shown, frames = [0.0], 0
    for _, _, event in events:
        if event == "jobs":
            await settle()
            server.work()
            await settle()
        elif event == "frame":
            # What the frame loop does: it takes the pose, then lets the scene come to the moment, and draws.
            server.scene.advance(0.0)
            assert server.shown(1) >= server.known_with_pose
            shown.append(server.shown(1))
            frames += 1
        elif isinstance(event, bytes):
            requests.on_record(event)
            server.newest_record = max(server.newest_record, wire.decode_transforms(event).sequence)
        else:
            server.came(event)
    assert frames == 240 and max(shown) > 150
    assert all(later >= earlier for earlier, later in itertools.pairwise(shown))
    steps = np.diff([0.0, *sorted(set(shown))])
    assert len(set(shown)) > 60 and np.median(steps) <= 2, "it moves in small steps"
    server.work()
    await settle()
    server.work()
    await requests.settle()


async def test_a_frame_is_due_as_soon_as_a_record_has_come() -> None:
    server = Server()

    async def forget(handles: list[int]) -> None:
        return None

    requests = SceneRequests(server, forget)  # type: ignore[arg-type]
    server.world.apply([wire.Create(id=1)])
    assert not server.scene.moving
    requests.on_record(record(3))
    assert server.scene.moving, "before any job has run"
    server.scene.advance(1.0)
    assert server.shown(1) == 3.0 and not server.scene.moving
    requests.disconnect()
    await settle()
    server.work()
    await requests.settle()
