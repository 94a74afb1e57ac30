"""How fast the device computes: really measured, with a kernel of fused multiply-adds."""

from __future__ import annotations

import time
from typing import Any

import wgpu

from farframe.render.pipelines import Pipelines, shader_source
from farframe.render.targets import Fence

OPERATIONS_PER_STEP = 16 * 4 * 2
"""Sixteen fused multiply-adds on vectors of four, each a multiplication and an addition."""
WORKGROUP = 64
WORKGROUPS = 2048
TARGET_SECONDS = 0.1
FIRST_STEPS = 16
MAX_STEPS = 1 << 22


def measure_teraflops(device: Any, pipelines: Pipelines) -> float:
    """FP32 operations per second in 10^12: the best of runs that grow until one takes :data:`TARGET_SECONDS`.

    Every run doubles at least, so the whole takes less than three times as long as the last.
    """
    usage = wgpu.BufferUsage
    results = device.create_buffer(size=WORKGROUP * WORKGROUPS * 4, usage=usage.STORAGE)
    parameters = device.create_buffer(size=16, usage=usage.UNIFORM | usage.COPY_DST)
    module = device.create_shader_module(label="flops", code=shader_source("flops"))
    pipeline = device.create_compute_pipeline(layout="auto", compute={"module": module, "entry_point": "flops"})
    pipelines.created += 1
    group = device.create_bind_group(
        layout=pipeline.get_bind_group_layout(0),
        entries=[{"binding": 0, "resource": {"buffer": results}}, {"binding": 1, "resource": {"buffer": parameters}}],
    )

    fence = Fence(device)

    def run(steps: int) -> float:
        device.queue.write_buffer(parameters, 0, steps.to_bytes(4, "little") + bytes(12))
        encoder = device.create_command_encoder()
        passing = encoder.begin_compute_pass()
        passing.set_pipeline(pipeline)
        passing.set_bind_group(0, group)
        passing.dispatch_workgroups(WORKGROUPS)
        passing.end()
        fence.record(encoder)
        commands = encoder.finish()
        start = time.perf_counter()
        device.queue.submit([commands])
        fence.wait()
        return time.perf_counter() - start

    run(1)
    steps = FIRST_STEPS
    best = 0.0
    while True:
        seconds = max(run(steps), 1e-6)
        best = max(best, steps * OPERATIONS_PER_STEP * WORKGROUP * WORKGROUPS / seconds)
        if seconds >= TARGET_SECONDS / 2 or steps >= MAX_STEPS:
            break
        steps = min(MAX_STEPS, steps * max(2, min(16, int(TARGET_SECONDS / seconds))))
    results.destroy()
    parameters.destroy()
    return best / 1e12
