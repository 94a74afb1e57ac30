"""The records that the TypeScript client is tested against are those of the Python code, byte for byte.

Run this file as a script to write them anew after a change of the record layouts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from farframe.protocol import records

FIXTURES = Path(__file__).parents[2] / "web" / "packages" / "client" / "test" / "fixtures" / "records.json"

LEFT_EYE = records.View(
    position=(0.25, -1.5, 1234567.125),
    orientation=(0.0, 0.59375, 0.0, 0.8125),
    fov=records.FieldOfView(-0.75, 0.5, 0.625, -0.375),
    near=0.0625,
    far=512.0,
)
RIGHT_EYE = records.View(
    position=(0.3125, -1.5, -7.0),
    orientation=(1.0, 0.0, 0.0, 0.0),
    fov=records.FieldOfView(-0.5, 0.75, 0.625, -0.375),
    near=0.125,
    far=1024.0,
)
PARALLEL = records.View(
    position=(0.0, 2.5, -0.5),
    orientation=(0.0, 1.0, 0.0, 0.0),
    fov=records.FieldOfView.extent(3.0, 1.5),
    near=0.5,
    far=64.0,
    orthographic=True,
)

POSES = {
    "one view": records.PoseRecord(1, 2**40 + 7, (LEFT_EYE,)),
    "two views, largest id": records.PoseRecord(2**32 - 1, 2**53 - 1, (LEFT_EYE, RIGHT_EYE)),
    "parallel rays": records.PoseRecord(2, 12, (PARALLEL,)),
}

FRAMES = {
    "still keyframe": records.FrameRecord(
        frame_id=3,
        rtp_timestamp=2**32 - 90_000,
        pose_id=17,
        client_time_us=2**33 + 5,
        pose_received_us=2**41 + 9,
        draw_start_us=100,
        draw_end_us=9_000,
        read_back_us=10_000,
        encode_start_us=10_050,
        encode_end_us=19_000,
        sent_us=19_100,
        encoded_bytes=45_678,
        width=1280,
        height=720,
        drawn_width=640,
        drawn_height=360,
        samples=4,
        reduced_parts=70_000,
        triangles=212_345,
        draws=318,
        views=(LEFT_EYE,),
        flags=records.FrameFlags.KEYFRAME | records.FrameFlags.STILL | records.FrameFlags.OVER_LIMIT,
    ),
    "keep-alive in stereo": records.FrameRecord(
        frame_id=4,
        rtp_timestamp=5,
        pose_id=18,
        client_time_us=0,
        pose_received_us=1,
        draw_start_us=2,
        draw_end_us=3,
        read_back_us=4,
        encode_start_us=5,
        encode_end_us=6,
        sent_us=2**32 + 5,
        encoded_bytes=0,
        width=3840,
        height=2160,
        drawn_width=3840,
        drawn_height=2160,
        samples=1,
        reduced_parts=0,
        triangles=0,
        draws=0,
        views=(LEFT_EYE, RIGHT_EYE),
        flags=records.FrameFlags.KEEP_ALIVE,
    ),
    "parallel rays": records.FrameRecord(
        frame_id=5,
        rtp_timestamp=6,
        pose_id=19,
        client_time_us=1,
        pose_received_us=2,
        draw_start_us=3,
        draw_end_us=4,
        read_back_us=5,
        encode_start_us=6,
        encode_end_us=7,
        sent_us=8,
        encoded_bytes=9,
        width=320,
        height=200,
        drawn_width=320,
        drawn_height=200,
        samples=1,
        reduced_parts=0,
        triangles=1,
        draws=1,
        views=(PARALLEL,),
        flags=records.FrameFlags.STILL,
    ),
}


def _view(view: records.View) -> dict[str, Any]:
    return {
        "position": list(view.position),
        "orientation": list(view.orientation),
        "fieldOfView": {"left": view.fov.left, "right": view.fov.right, "up": view.fov.up, "down": view.fov.down},
        "near": view.near,
        "far": view.far,
    } | ({"orthographic": True} if view.orthographic else {})


def _camel(name: str) -> str:
    first, *rest = name.removesuffix("_us").split("_")
    return first + "".join(map(str.capitalize, rest)) + ("Microseconds" if name.endswith("_us") else "")


def _frame(data: bytes, record: records.FrameRecord) -> dict[str, Any]:
    # Numbers as the bytes hold them: some saturate.
    decoded = records.decode_frame(data)
    members: dict[str, Any] = {
        _camel(name): getattr(decoded, name) for name in records.FrameRecord.__slots__ if name not in ("views", "flags")
    }
    members["views"] = [_view(view) for view in record.views]
    members["keyframe"] = records.FrameFlags.KEYFRAME in record.flags
    members["still"] = records.FrameFlags.STILL in record.flags
    members["keepAlive"] = records.FrameFlags.KEEP_ALIVE in record.flags
    members["overLimit"] = records.FrameFlags.OVER_LIMIT in record.flags
    return members


def fixtures() -> dict[str, Any]:
    """Name, bytes as hexadecimal text and members of each record."""
    poses = [
        {
            "name": name,
            "bytes": records.encode_pose(pose).hex(),
            "record": {
                "poseId": pose.pose_id,
                "clientTimeMicroseconds": pose.client_time_us,
                "views": [_view(view) for view in pose.views],
            },
        }
        for name, pose in POSES.items()
    ]
    frames = [
        {"name": name, "bytes": data.hex(), "record": _frame(data, frame)}
        for name, frame in FRAMES.items()
        for data in [records.encode_frame(frame)]
    ]
    return {"poses": poses, "frames": frames}


def test_committed_records_are_those_of_this_code() -> None:
    assert json.loads(FIXTURES.read_text()) == fixtures()


if __name__ == "__main__":
    FIXTURES.write_text(json.dumps(fixtures(), indent=1) + "\n")
