"""Pages over a slow network."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farframe.asset.container import Asset
from farframe.asset.source import FileSource
from farframe.protocol.link import FetchPolicy, LoadLimits
from farframe.render import Engine, RenderScene
from farframe.storage.ranges import WebSource
from tests.render.shapes import look_at
from tests.render.test_assets import bumpy, draw, model_of, save, settle

DELAY_SECONDS = 0.03


@pytest.fixture(scope="module")
def asset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streaming") / "bumpy.arrAsset"
    save(model_of(bumpy(300)), path).close()
    return path


class SlowHost:
    """A web server that keeps each request waiting; ``most`` is how many waited at a time, ``served`` all of them."""

    def __init__(self, data: bytes) -> None:
        self.most = self.waiting = 0
        self.served: list[tuple[int, int]] = []
        lock, host = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with lock:
                    host.waiting += 1
                    host.most = max(host.most, host.waiting)
                time.sleep(DELAY_SECONDS)
                first, last = (int(each) for each in self.headers["Range"].removeprefix("bytes=").split("-"))
                last = min(last, len(data) - 1)
                with lock:
                    host.waiting -= 1
                    host.served.append((first, last))
                self.send_response(206)
                self.send_header("ETag", '"one"')
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
                self.send_header("Content-Length", str(last - first + 1))
                self.end_headers()
                self.wfile.write(data[first : last + 1])

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def slow_host(asset_path: Path) -> Iterator[SlowHost]:
    host = SlowHost(asset_path.read_bytes())
    yield host
    host.close()


def test_a_slow_web_server_is_asked_for_several_pages_at_a_time(
    engine: Engine, asset_path: Path, slow_host: SlowHost
) -> None:
    view = look_at((0, 0, 2.4), aspect=1.0)
    pictures = []
    url = f"http://127.0.0.1:{slow_host.server.server_address[1]}/bumpy.arrAsset"
    policy = FetchPolicy(allowed_networks=("127.0.0.0/8",))
    for source in (FileSource(asset_path), WebSource(url, policy)):
        asset = Asset.open(source, LoadLimits())
        resource = engine.open_asset(asset)
        scene = RenderScene()
        scene.add(resource, np.eye(4))
        first = draw(engine, scene, view)
        assert first.triangles > 0, "the coarsest surface is there at once"
        settle(engine, scene, view, cut_error=0.02)
        pictures.append(draw(engine, scene, view, cut_error=0.02))
        streamed = int(np.count_nonzero(resource.pages.resident & ~resource.root_page))
        engine.release(resource)
        asset.close()
    assert pictures[1].triangles == pictures[0].triangles
    assert (pictures[1].pixels == pictures[0].pixels).all()
    assert streamed > 5
    assert slow_host.most > 2, "pages were fetched one after the other"
    pages_from = int(asset.pages["offset"][0])
    assert sum(first >= pages_from for first, _ in slow_host.served) < streamed, "each page took a request of its own"


def test_pages_that_lie_behind_each_other_are_read_at_once_and_checked(asset_path: Path, tmp_path: Path) -> None:
    asset = Asset.open(FileSource(asset_path), LoadLimits())
    assert asset.read_pages(1, 3) == [asset.read_page(page) for page in (1, 2, 3)]
    changed = bytearray(asset_path.read_bytes())
    changed[int(asset.pages["offset"][2]) + 9] ^= 1
    asset.close()
    path = tmp_path / "changed.arrAsset"
    path.write_bytes(changed)
    asset = Asset.open(FileSource(path), LoadLimits())
    with pytest.raises(Exception, match="page 2 was changed"):
        asset.read_pages(1, 3)
    asset.close()
