"""The loader and its sandbox: models come through, whatever goes wrong in the worker is a typed error."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from farframe.asset.flat import read_flat, write_flat
from farframe.asset.gltf import read_gltf
from farframe.asset.loading import ModelLoader
from farframe.asset.lod import build_levels
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

LIMITS = LoadLimits(max_memory_bytes=512 * 1024**2, max_seconds=60)


def worker_with(patch: str) -> tuple[str, ...]:
    """A real worker in which something is replaced before it serves."""
    return (
        sys.executable,
        "-c",
        f"import os, signal, time, sys\nimport farframe.asset.worker as worker\n{patch}\nworker.main()",
    )


def fake_worker(script: str) -> tuple[str, ...]:
    """Not a worker: what stands for one that lies. ``job`` is the first line that it is sent."""
    head = "import sys, os, json, time\nsay = lambda **m: print(json.dumps(m), flush=True)\n"
    return (sys.executable, "-c", head + script)


async def refused(loader: ModelLoader, path: Path, limits: LoadLimits = LIMITS) -> FarframeError:
    with pytest.raises(FarframeError) as caught:
        await loader.load(path, limits)
    return caught.value


async def test_a_file_comes_as_it_is(models_folder, tmp_path):
    seen = []
    async with ModelLoader(tmp_path / "work") as loader:
        model = await loader.load(models_folder / "2CylinderEngine.glb", LIMITS, lambda s, f: seen.append((s, f)))
        assert list((tmp_path / "work").iterdir()) == []
    assert model.triangle_count == 121_496
    assert {len(part.levels) for part in model.parts} == {1}
    assert not model.vertices.flags.owndata
    expected = read_gltf(models_folder / "2CylinderEngine.glb", LIMITS)
    np.testing.assert_array_equal(model.vertices, expected.vertices)
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


async def test_a_flat_file_stays_where_it_is_wanted(quad_glb, tmp_path):
    kept = tmp_path / "kept" / "quad.flat"
    async with ModelLoader(tmp_path / "work") as loader:
        model = await loader.load(quad_glb, LIMITS, keep_as=kept)
    assert list(kept.parent.iterdir()) == [kept]
    np.testing.assert_array_equal(read_flat(kept).indices, model.indices)


async def test_one_worker_serves_many_loads(quad_glb, tmp_path):
    async with ModelLoader(tmp_path / "work") as loader:
        pid = loader.worker_pid
        models = await asyncio.gather(*(loader.load(quad_glb, LIMITS) for _ in range(4)))
        assert loader.worker_pid == pid
    assert [model.triangle_count for model in models] == [4] * 4
    assert not psutil.pid_exists(pid)


async def test_reader_errors_come_through_and_the_worker_stays(quad_glb, tmp_path):
    broken = tmp_path / "broken.glb"
    broken.write_bytes(quad_glb.read_bytes()[:300])
    async with ModelLoader(tmp_path / "work") as loader:
        pid = loader.worker_pid
        error = await refused(loader, broken)
        assert error.result is Result.FILE_CORRUPT
        assert "truncated" in error.message
        assert error.next_step
        assert (await refused(loader, tmp_path / "none.glb")).result is Result.FILE_NOT_FOUND
        assert (await loader.load(quad_glb, LIMITS)).triangle_count == 4
        assert loader.worker_pid == pid


async def test_memory_is_limited_by_the_kernel(quad_glb, tmp_path):
    patch = "worker.read_gltf = lambda *a: bytearray(900 * 1024**2)"
    async with ModelLoader(tmp_path / "work", command=worker_with(patch)) as loader:
        assert (await refused(loader, quad_glb)).result is Result.EXCEEDS_MEMORY_LIMIT


async def test_the_output_is_limited_by_the_kernel(quad_glb, tmp_path):
    patch = "worker.write_flat = lambda model, path: path.write_bytes(bytes(2 * 1024**2))"
    async with ModelLoader(tmp_path / "work", command=worker_with(patch)) as loader:
        limits = LoadLimits(max_memory_bytes=1024**2)
        assert (await refused(loader, quad_glb, limits)).result is Result.EXCEEDS_MEMORY_LIMIT
        assert list((tmp_path / "work").iterdir()) == []


async def test_processor_time_is_limited_by_the_kernel(quad_glb, tmp_path, monkeypatch):
    patch = "worker.os.cpu_count = lambda: 1\ndef spin(*a):\n    while True: pass\nworker.read_gltf = spin"
    async with ModelLoader(tmp_path / "work", command=worker_with(patch)) as loader:
        error = await refused(loader, quad_glb, LoadLimits(max_seconds=0.2))
        assert error.result is Result.EXCEEDS_MEMORY_LIMIT


async def test_time_is_limited_even_if_the_job_only_waits(quad_glb, tmp_path, monkeypatch):
    monkeypatch.setattr("farframe.asset.loading.GRACE_SECONDS", 0.0)
    patch = "worker.read_gltf = lambda *a: time.sleep(1000)"
    async with ModelLoader(tmp_path / "work", command=worker_with(patch)) as loader:
        pid = loader.worker_pid
        assert (await refused(loader, quad_glb, LoadLimits(max_seconds=0.3))).result is Result.EXCEEDS_MEMORY_LIMIT
        assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ("worker.read_gltf = lambda *a: os.kill(os.getpid(), signal.SIGSEGV)", Result.FILE_CORRUPT),
        ("worker.read_gltf = lambda *a: os.abort()", Result.FILE_CORRUPT),
        ("worker.read_gltf = lambda *a: os._exit(7)", Result.FILE_CORRUPT),
        ("worker.read_gltf = lambda *a: 1 / 0", Result.FILE_CORRUPT),
        ("worker.read_gltf = lambda *a: os.kill(os.getpid(), signal.SIGKILL)", Result.EXCEEDS_MEMORY_LIMIT),
    ],
)
async def test_a_crash_costs_that_load_only(quad_glb, tmp_path, patch, result):
    flag = tmp_path / "crash"
    flag.touch()
    patch = f"sound = worker.read_gltf\n{patch}\ncrash = worker.read_gltf\n" + (
        f"worker.read_gltf = lambda *a: crash(*a) if os.path.exists({str(flag)!r}) else sound(*a)"
    )
    async with ModelLoader(tmp_path / "work", command=worker_with(patch)) as loader:
        pid = loader.worker_pid
        assert (await refused(loader, quad_glb)).result is result
        flag.unlink()
        assert (await loader.load(quad_glb, LIMITS)).triangle_count == 4
        assert loader.worker_pid == pid


async def test_cancelling_kills_the_job_and_a_new_worker_comes(quad_glb, tmp_path):
    flag = tmp_path / "hang"
    flag.touch()
    patch = (
        "sound = worker.read_gltf\n"
        "def hang(path, limits, progress):\n"
        "    progress('hanging', 0.1)\n"
        f"    while os.path.exists({str(flag)!r}): time.sleep(0.01)\n"
        "    return sound(path, limits, progress)\n"
        "worker.read_gltf = hang"
    )
    async with ModelLoader(tmp_path / "work", command=worker_with(patch)) as loader:
        first = loader.worker_pid
        hanging = asyncio.Event()
        task = asyncio.create_task(loader.load(quad_glb, LIMITS, lambda stage, fraction: hanging.set()))
        await asyncio.wait_for(hanging.wait(), 60)
        children = psutil.Process(first).children(recursive=True)
        assert len(children) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not psutil.pid_exists(first)
        psutil.wait_procs(children, timeout=60)
        assert not any(child.is_running() for child in children)
        flag.unlink()
        assert (await loader.load(quad_glb, LIMITS)).triangle_count == 4
        assert loader.worker_pid != first


async def test_closing_ends_a_load(quad_glb, tmp_path):
    patch = (
        "def hang(path, limits, progress):\n    progress('hanging', 0.1)\n    time.sleep(1000)\nworker.read_gltf = hang"
    )
    loader = ModelLoader(tmp_path / "work", command=worker_with(patch))
    hanging = asyncio.Event()
    task = asyncio.create_task(loader.load(quad_glb, LIMITS, lambda stage, fraction: hanging.set()))
    await asyncio.wait_for(hanging.wait(), 60)
    pid = loader.worker_pid
    await loader.close()
    with pytest.raises(FarframeError) as caught:
        await task
    assert caught.value.result is Result.CANCELLED
    assert not psutil.pid_exists(pid)


async def test_a_caller_that_fails_in_progress_leaves_nothing_running(quad_glb, tmp_path):
    async with ModelLoader(tmp_path / "work") as loader:

        def fail(stage, fraction):
            raise BrokenPipeError("the device is gone")

        with pytest.raises(BrokenPipeError):
            await loader.load(quad_glb, LIMITS, fail)
        assert (await loader.load(quad_glb, LIMITS)).triangle_count == 4


async def test_when_the_server_dies_so_does_the_job(quad_glb, tmp_path):
    patch = "worker.read_gltf = lambda *a: time.sleep(1000)"
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *worker_with(patch), stdin=reader, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    os.close(reader)
    assert b"ready" in await process.stdout.readline()
    job = f'{{"kind":"file","source":"{quad_glb}","output":"{tmp_path}/out","limits":{{}}}}\n'
    os.write(writer, job.encode())
    parent = psutil.Process(process.pid)
    while not (children := parent.children()):
        await asyncio.sleep(0.01)
    os.close(writer)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


@pytest.mark.parametrize(
    "script",
    [
        "say(type='ready')\ninput()\nprint('nonsense', flush=True)\ntime.sleep(1000)",
        "say(type='ready')\ninput()\nsay(type='ready')\ntime.sleep(1000)",
        "say(type='ready')\ninput()\nprint('x' * 1_000_000, flush=True)\ntime.sleep(1000)",
        "say(type='ready')\ninput()",
        "say(type='ready')",
    ],
)
async def test_a_worker_that_talks_nonsense_is_replaced(quad_glb, tmp_path, script):
    async with ModelLoader(tmp_path / "work", command=fake_worker(script)) as loader:
        assert (await refused(loader, quad_glb)).result in (Result.FILE_CORRUPT, Result.FAIL)


async def test_a_worker_that_claims_what_it_has_not_written(quad_glb, tmp_path):
    script = (
        "say(type='ready')\njob = json.loads(input())\nopen(job['output'], 'wb').write(b'no model' * 100)\n"
        "say(type='ended', exit_code=0)\ntime.sleep(1000)"
    )
    async with ModelLoader(tmp_path / "work", command=fake_worker(script)) as loader:
        assert (await refused(loader, quad_glb)).result is Result.FILE_CORRUPT
        assert list((tmp_path / "work").iterdir()) == []


async def test_a_worker_that_does_not_start(quad_glb, tmp_path):
    loader = ModelLoader(tmp_path / "work", command=(sys.executable, "-c", "raise SystemExit(1)"))
    with pytest.raises(FarframeError) as caught:
        await loader.start()
    assert caught.value.result is Result.FAIL
    await loader.close()


async def test_the_job_is_confined(quad_glb, tmp_path):
    report = tmp_path / "report"
    report.touch()
    patch = (
        "import resource, socket\n"
        "def look(path, limits, progress):\n"
        "    status = open('/proc/self/status').read()\n"
        "    lines = [line for line in status.splitlines() if line.startswith(('NoNewPrivs', 'CapEff'))]\n"
        "    lines.append('core %d %d' % resource.getrlimit(resource.RLIMIT_CORE))\n"
        "    lines.append('files %d' % resource.getrlimit(resource.RLIMIT_NOFILE)[1])\n"
        "    lines.append('secret %s' % os.environ.get('FARFRAME_SECRET'))\n"
        "    lines.append('input %r' % os.read(0, 10))\n"
        f"    open({str(report)!r}, 'w').write('\\n'.join(lines))\n"
        "    os._exit(0)\n"
        "worker.read_gltf = look"
    )
    os.environ["FARFRAME_SECRET"] = "hunter2"
    try:
        async with ModelLoader(tmp_path / "work", command=worker_with(patch)) as loader:
            await refused(loader, quad_glb)
    finally:
        del os.environ["FARFRAME_SECRET"]
    found = report.read_text().splitlines()
    assert "NoNewPrivs:\t1" in found
    assert "core 0 0" in found
    assert "files 256" in found
    assert "secret None" in found
    assert "input b''" in found
    effective = int(next(line for line in found if line.startswith("CapEff")).split()[1], 16)
    if os.geteuid() == 0:
        assert effective & ~0b110 == 0


class TestBuiltin:
    async def test_engine_is_made_once_and_mapped_afterwards(self, tmp_path):
        async with ModelLoader(tmp_path / "work", cache_folder=tmp_path / "cache") as loader:
            made = await loader.load("Engine", LIMITS)
            (cached,) = (tmp_path / "cache").iterdir()
            pid = loader.worker_pid
            os.kill(pid, signal.SIGKILL)
            again = await loader.load("engine", LIMITS)
        assert made.triangle_count == again.triangle_count > 0
        assert len(made.parts[0].levels) >= 1
        np.testing.assert_array_equal(made.vertices, again.vertices)
        assert cached.exists()

    async def test_a_broken_cache_is_made_anew(self, tmp_path, quad_glb):
        async with ModelLoader(tmp_path / "work", cache_folder=tmp_path / "cache") as loader:
            made = await loader.load("Engine", LIMITS)
            (cached,) = (tmp_path / "cache").iterdir()
            # A new file: the old one stays mapped by the model that was made from it.
            cached.unlink()
            cached.write_bytes(b"broken" * 100)
            again = await loader.load("Engine", LIMITS)
        assert again.triangle_count == made.triangle_count
        assert cached.stat().st_size > 1_000

    async def test_unknown_names(self, tmp_path):
        async with ModelLoader(tmp_path / "work") as loader:
            with pytest.raises(FarframeError) as caught:
                await loader.load("Teapot", LIMITS)
            assert caught.value.result is Result.FILE_NOT_FOUND


def test_the_flat_file_of_the_worker_is_what_is_written_here(quad_glb, tmp_path):
    model = build_levels(read_gltf(quad_glb, LIMITS))
    assert write_flat(model, tmp_path / "a.flat") == write_flat(model, tmp_path / "b.flat")
    assert (tmp_path / "a.flat").read_bytes() == (tmp_path / "b.flat").read_bytes()
