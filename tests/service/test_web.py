"""The web pages: the right files with the right headers, and no way out of their folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from farframe.service.routes_web import WebBundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "viewer").mkdir(parents=True)
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("console")
    (folder / "viewer" / "index.html").write_text("viewer")
    (folder / "assets" / "main-abc_1.js").write_text("js")
    (folder / "assets" / "style.css").write_text("css")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "leak.txt").symlink_to(tmp_path / "secret.txt")
    (folder / ".hidden").write_text("hidden")
    return folder


@pytest.fixture
def use_bundle(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> Path:
    import farframe.service.app as app

    monkeypatch.setattr(app, "WebBundle", lambda: WebBundle(bundle))
    return bundle


async def test_pages_and_assets(use_bundle: Path, make_world: Any) -> None:
    async with make_world() as world:
        for path, text, kind, cache in (
            ("/", "console", "text/html; charset=utf-8", "no-cache"),
            ("/index.html", "console", "text/html; charset=utf-8", "no-cache"),
            ("/viewer/", "viewer", "text/html; charset=utf-8", "no-cache"),
            ("/assets/main-abc_1.js", "js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
            ("/assets/style.css", "css", "text/css; charset=utf-8", "public, max-age=31536000, immutable"),
        ):
            response = await world.http.get(path)
            assert (response.status_code, response.text) == (200, text)
            assert response.headers["content-type"] == kind
            assert response.headers["cache-control"] == cache
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["referrer-policy"] == "no-referrer"
            assert response.headers["x-content-type-options"] == "nosniff"
            again = await world.http.get(path, headers={"If-None-Match": response.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        redirect = await world.http.get("/viewer")
        assert (redirect.status_code, redirect.headers["location"]) == (308, "/viewer/")
        (use_bundle / "index.html").write_text("rebuilt")
        assert (await world.http.get("/")).text == "rebuilt"


@pytest.mark.parametrize(
    "path",
    [
        "/leak.txt",
        "/.hidden",
        "/assets",
        "/assets/",
        "/nothing.js",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/%5c..%5csecret.txt",
        "/index.html/",
        "/index.html%00",
        "//etc/passwd",
    ],
)
async def test_no_way_out(use_bundle: Path, make_world: Any, path: str) -> None:
    async with make_world() as world:
        response = await world.http.get(httpx.URL(f"{world.http_url}{path}"))
        assert response.status_code == 404 or response.text == "console"
        assert "secret" not in response.text
        assert "hidden" not in response.text


async def test_a_missing_bundle_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch, make_world: Any, tmp_path: Path
) -> None:
    import farframe.service.app as app

    monkeypatch.setattr(app, "WebBundle", lambda: WebBundle(tmp_path / "nothing"))
    async with make_world() as world:
        for path in ("/", "/viewer/"):
            response = await world.http.get(path)
            assert response.status_code == 503
            assert response.headers["content-type"] == "text/html; charset=utf-8"
            assert "./dev setup" in response.text
        assert (await world.http.get("/assets/x.js")).status_code == 404
        assert (await world.create()).status_code == 201
