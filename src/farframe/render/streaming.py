"""Pages and mip levels on their way from where an asset lies to the device, while frames are drawn.

    the cut says what a picture misses          render thread: PageState.priority
    the most missed are asked for               render thread: Residency.request, the list anew for every picture
    fetched, checked, decoded                   threads: Streamer
    uploaded, a few megabytes a picture         render thread: Residency.upload
    what was unused for longest gives way       render thread: only pages on which no resident page depends

A picture never waits: it draws what is there. When something has come, ``on_ready`` is called (in a worker thread), so
that a picture at rest is drawn anew.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from farframe.asset.format import POINTS
from farframe.protocol.errors import FarframeError

if TYPE_CHECKING:
    from farframe.asset.pages import Page
    from farframe.render.assets import AssetResource
    from farframe.render.pools import Pool

log = structlog.get_logger("farframe.streaming")

UPLOAD_BYTES = 8 << 20
"""What one picture may upload: a few milliseconds on a CPU adapter."""
MAX_DECODED = 48
"""Pages that wait decoded at a time; each has at most MAX_PAGE_BYTES, most an eighth of that."""
MAX_REQUESTS = 64
"""Pages asked for per picture: what is missed most comes first, and the next picture asks anew."""
READ_THREADS = 8
"""Reads at a time: over a network each waits for most of its time."""
DECODERS = 2
"""Pages decoded at a time, so that the processor is left to drawing."""
RUN_BYTES = 1 << 20
"""Pages that lie behind each other in a file are read at once, up to this size."""
MAX_FAILURES = 3
"""A page that could not be had so often is left alone: its coarser surface stays."""


@dataclass(order=True)
class _Request:
    rank: float
    number: int
    resource: Any = field(compare=False)
    key: tuple[int, int] = field(compare=False)


Ready = tuple["AssetResource", tuple[int, int], "Page | bytes | None"]
"""Whose, which (see :meth:`Streamer.want`), and what; ``None`` when it could not be had."""


class Streamer:
    """Fetches on ``threads`` threads, of which ``decoders`` decode at a time. All methods but ``close`` belong to one
    thread."""

    def __init__(self, threads: int = READ_THREADS, decoders: int = DECODERS) -> None:
        self._count = threads
        self._decoders = threading.BoundedSemaphore(decoders)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._wanted: list[_Request] = []
        self._busy: set[tuple[int, tuple[int, int]]] = set()
        self._ready: list[Ready] = []
        self._stopping = False
        self.on_ready: Callable[[], None] | None = None
        """Called in a worker thread when something has become ready."""

    def want(self, requests: Iterable[tuple[float, AssetResource, tuple[int, int]]]) -> None:
        """Fetch these, and nothing that was asked for before and is not under way: priority, whose, and either
        ``(-1, page)`` or ``(texture, level)``."""
        with self._lock:
            here = {(id(resource), key) for resource, key, _ in self._ready} | self._busy
            self._wanted = [
                _Request(-priority, number, resource, key)
                for number, (priority, resource, key) in enumerate(requests)
                if (id(resource), key) not in here
            ]
            heapq.heapify(self._wanted)
            while len(self._threads) < min(self._count, len(self._wanted)):
                thread = threading.Thread(target=self._main, name=f"stream-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            if self._wanted:  # for nothing nobody is woken: a moving picture asks many times a second
                self._work.notify_all()

    @property
    def ready_count(self) -> int:
        """How many answers wait to be taken."""
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Whether nothing is asked for, under way or waiting."""
        with self._lock:
            return not (self._wanted or self._busy or self._ready)

    def take(self) -> list[Ready]:
        """What has become ready since the last call."""
        with self._lock:
            ready, self._ready = self._ready, []
            if ready and self._wanted:
                self._work.notify_all()
            return ready

    def _main(self) -> None:
        while True:
            with self._lock:
                while not self._stopping and (not self._wanted or len(self._ready) >= MAX_DECODED):
                    self._work.wait()
                if self._stopping:
                    return
                run = self._take_run(heapq.heappop(self._wanted))
                resource = run[0].resource
                self._busy.update((id(resource), request.key) for request in run)
            found: list[Page | bytes | None] = [None] * len(run)
            try:
                if not resource.released:
                    self._fetch(resource, [request.key for request in run], found)
            except FarframeError as error:
                log.warning("page.failed", asset=resource.name, page=run[0].key[1], error=error.message)
            except Exception as error:  # a thread that dies silently would leave the picture coarse for ever
                if not resource.released:
                    log.error("page.failed", asset=resource.name, page=run[0].key[1], error=str(error))
            with self._lock:
                self._busy.difference_update((id(resource), request.key) for request in run)
                self._ready += [(resource, request.key, each) for request, each in zip(run, found, strict=True)]
                notify = None if self._stopping else self.on_ready
            if notify is not None:
                notify()

    def _take_run(self, first: _Request) -> list[_Request]:
        """The request, and those for pages that lie right behind it in the same file, taken from what is wanted."""
        run = [first]
        texture, page = first.key
        if texture >= 0:
            return run
        rows = first.resource.asset.pages
        by_page = {
            request.key[1]: request
            for request in self._wanted
            if request.resource is first.resource and request.key[0] < 0
        }
        size = int(rows["size"][page])
        end = int(rows["offset"][page]) + size
        while (request := by_page.get(page + 1)) is not None:
            page += 1
            size += int(rows["size"][page])
            if size > RUN_BYTES or int(rows["offset"][page]) != end:
                break
            end += int(rows["size"][page])
            run.append(request)
        if len(run) > 1:
            taken = {request.number for request in run}
            self._wanted = [request for request in self._wanted if request.number not in taken]
            heapq.heapify(self._wanted)
        return run

    def _fetch(self, resource: AssetResource, keys: list[tuple[int, int]], found: list[Page | bytes | None]) -> None:
        """Fill ``found`` as far as it goes; raises what reading and decoding raise."""
        texture, number = keys[0]
        if texture >= 0:
            found[0] = resource.level_data(texture, number)
            return
        pages = [page for _, page in keys]
        for place, data in enumerate(resource.asset.read_pages(pages[0], len(pages))):
            with self._decoders:
                found[place] = resource.asset.decode_page(pages[place], data)

    def forget(self, resource: AssetResource) -> None:
        """Drop everything that is wanted or ready for an asset, and wait for what is under way."""
        with self._lock:
            self._wanted = [request for request in self._wanted if request.resource is not resource]
            heapq.heapify(self._wanted)
            self._ready = [ready for ready in self._ready if ready[0] is not resource]

    def close(self) -> None:
        """End the threads; a page that one is fetching is waited for."""
        with self._lock:
            self._stopping = True
            self._wanted.clear()
            self._work.notify_all()
        for thread in self._threads:
            thread.join()
        self._ready.clear()


class Residency:
    """Which pages are on the device. Render thread only. ``budget_bytes`` is for the pages of all assets together."""

    def __init__(self, vertices: Pool, indices: Pool, points: Pool, streamer: Streamer, budget_bytes: int) -> None:
        self.vertices, self.indices, self.points = vertices, indices, points
        self.streamer = streamer
        self.budget_bytes = budget_bytes
        self.picture = 0
        """The number of the present picture: pages remember when they were used last."""
        self.uploaded = self.evicted = 0
        """Pages uploaded and evicted so far."""
        self.version = 0
        """Grows with everything that a new picture would show."""
        self._resources: list[AssetResource] = []
        self._waiting: list[Ready] = []
        self._stuck = False
        self._missed: list[float] = []

    @property
    def used_bytes(self) -> int:
        """What resident pages take."""
        return self.vertices.used_bytes + self.indices.used_bytes + self.points.used_bytes

    @property
    def pending(self) -> bool:
        """Whether :meth:`upload` would find something to do."""
        return self.streamer.ready_count > 0 or (bool(self._waiting) and not self._stuck)

    @property
    def idle(self) -> bool:
        """Whether nothing more is to come for the view that was drawn last."""
        return self.streamer.idle and (not self._waiting or self._stuck)

    def add(self, resource: AssetResource) -> None:
        """Begin to stream an asset."""
        self._resources.append(resource)

    def remove(self, resource: AssetResource) -> None:
        """Free all pages of an asset."""
        if resource in self._resources:
            self._resources.remove(resource)
        self.streamer.forget(resource)
        self._waiting = [ready for ready in self._waiting if ready[0] is not resource]
        for page in np.flatnonzero(resource.pages.resident)[::-1]:
            self._free(resource, int(page))
        self._stuck = False

    def begin_picture(self) -> None:
        """Take in what has come, and forget what the last picture missed."""
        self.upload()
        self.picture += 1
        for resource in self._resources:
            resource.pages.priority[:] = 0.0

    def end_picture(self) -> None:
        """Ask for what the picture missed, dependences first."""
        missed = [float(resource.pages.priority.sum(dtype=np.float64)) for resource in self._resources]
        # With pages that are all in use a picture stays as coarse as it is: what did not fit is not fetched again
        # before another view misses something else.
        full = self._stuck and missed == self._missed
        self._missed = missed
        self.streamer.want(self._requests(pages=not full))

    def _requests(self, *, pages: bool) -> list[tuple[float, AssetResource, tuple[int, int]]]:
        here = {(id(resource), key) for resource, key, _ in self._waiting}
        requests: list[tuple[float, AssetResource, tuple[int, int]]] = []
        for resource in self._resources:
            missed = np.flatnonzero(resource.pages.priority > 0.0)
            if len(missed) > MAX_REQUESTS:
                most = np.argpartition(-resource.pages.priority[missed], MAX_REQUESTS)[:MAX_REQUESTS]
                missed = missed[most]
            wanted: dict[int, float] = {}
            for page in missed.tolist():
                priority = float(resource.pages.priority[page])
                todo = [page]
                while todo:
                    number = todo.pop()
                    if resource.pages.resident[number]:
                        continue
                    if wanted.get(number, 0.0) >= priority:
                        continue
                    # A page can only be used when those it depends on are there: they come just before it.
                    wanted[number] = priority
                    priority *= 1.0 + 1e-6
                    todo.extend(resource.parents_of(number))
            for number, priority in wanted.items():
                if resource.failures.get((-1, number), 0) < MAX_FAILURES and (id(resource), (-1, number)) not in here:
                    requests.append((priority, resource, (-1, number)))
            requests.extend(
                (priority, resource, key)
                for priority, key in resource.missing_mips()
                if resource.failures.get(key, 0) < MAX_FAILURES
            )
        requests.sort(key=lambda request: -request[0])
        return [request for request in requests if pages or request[2][0] >= 0][:MAX_REQUESTS]

    def upload(self, limit_bytes: int = UPLOAD_BYTES) -> None:
        """Bring what was fetched onto the device, up to ``limit_bytes`` of it, coarse pages first."""
        waiting = self._waiting + self.streamer.take()
        waiting.sort(key=lambda ready: ready[1])
        self._waiting = []
        self._stuck = False
        left = limit_bytes
        for ready in waiting:
            resource, key, found = ready
            if resource.released:
                continue
            if found is None:
                resource.failures[key] = resource.failures.get(key, 0) + 1
            elif left <= 0:
                self._waiting.append(ready)
            elif isinstance(found, bytes):
                resource.write_mip(*key, found)
                self.version += 1
                left -= len(found)
            else:
                left -= self._take(resource, key[1], found, ready)

    def _take(self, resource: AssetResource, page: int, found: Page, ready: Ready) -> int:
        """Make a page resident if it can be; the bytes that were written."""
        state = resource.pages
        if state.resident[page]:
            return 0
        if not all(state.resident[parent] for parent in resource.parents_of(page)):
            # A page that it depends on was evicted, or failed: it is asked for again where it is still missed.
            return 0
        if not self.place(resource, page, found):
            self._stuck = True
            return 0
        return int(found.vertices.nbytes + found.indices.nbytes)

    def place(self, resource: AssetResource, page: int, found: Page) -> bool:
        """Make a page resident, evicting others if it must; ``False`` if there is no room. What it depends on must be
        resident."""
        size = found.vertices.nbytes + found.indices.nbytes
        while self.used_bytes + size > self.budget_bytes:
            if not self._evict_one(resource, page):
                return False
        pool = self.points if resource.page_kind[page] == POINTS else self.vertices
        while (vertex := pool.allocate(len(found.vertices))) is None:
            if not self._evict_one(resource, page):
                return False
        while (index := self.indices.allocate(len(found.indices))) is None:
            if not self._evict_one(resource, page):
                pool.free(vertex, len(found.vertices))
                return False
        pool.write(vertex, found.vertices)
        self.indices.write(index, found.indices)
        resource.set_resident(page, found, vertex, index, self.picture)
        self.uploaded += 1
        self.version += 1
        return True

    def _evict_one(self, for_resource: AssetResource, for_page: int) -> bool:
        """Free the page that was unused for longest, of those that the last picture did not use and on which no
        resident page depends. ``False`` if there is none."""
        best: tuple[int, AssetResource, int] | None = None
        for resource in self._resources:
            state = resource.pages
            free = state.resident & (resource.dependants == 0) & (state.used < self.picture)
            if not for_resource.root_page[for_page]:
                # Without its coarsest clusters a part would vanish, only to come back when it is looked at.
                free &= ~resource.root_page
            if resource is for_resource:
                for parent in resource.parents_of(for_page):
                    free[parent] = False
            candidates = np.flatnonzero(free)
            if len(candidates):
                page = int(candidates[np.argmin(state.used[candidates])])
                if best is None or int(state.used[page]) < best[0]:
                    best = (int(state.used[page]), resource, page)
        if best is None:
            return False
        self._free(best[1], best[2])
        self.evicted += 1
        return True

    def _free(self, resource: AssetResource, page: int) -> None:
        row = resource.asset.pages[page]
        pool = self.points if resource.page_kind[page] == POINTS else self.vertices
        pool.free(int(resource.pages.vertex[page]), int(row["vertex_count"]))
        self.indices.free(int(resource.pages.index[page]), int(row["index_count"]))
        resource.set_absent(page)
