"""Uploads: where files may go, quotas, truncated bodies, retention."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.auth.tokens import Role
from farframe.service.uploads import check_path, upload_uri
from farframe.wire.errors import BadRequest


def stored_files(world: Any) -> dict[str, bytes]:
    root = world.folder / "uploads"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def put(world: Any, path: str, content: Any, **arguments: Any) -> Any:
    arguments.setdefault("headers", world.headers)
    return await world.http.put(
        f"{world.http_url}/accounts/{world.account}/uploads/{path}", content=content, **arguments
    )


async def test_store_list_replace_delete(world: Any) -> None:
    response = await put(world, "u-1/models/A%20%C3%A4.glb", b"abc")
    assert response.status_code == 201
    assert response.json()["uri"] == "upload://u-1/models/A%20%C3%A4.glb"
    assert response.json()["bytes"] == 3
    assert stored_files(world) == {f"{world.account}/u-1/models/A ä.glb": b"abc"}
    assert (await put(world, "u-1/models/A%20%C3%A4.glb", b"longer")).status_code == 200
    await put(world, "u-2/b.bin", b"")
    listing = (await world.http.get(f"/accounts/{world.account}/uploads", headers=world.headers)).json()
    assert listing["usedBytes"] == 6
    assert [(file["uploadId"], file["path"], file["bytes"]) for file in listing["uploads"]] == [
        ("u-1", "models/A ä.glb", 6),
        ("u-2", "b.bin", 0),
    ]
    deleted = await world.http.delete(f"/accounts/{world.account}/uploads/u-1", headers=world.headers)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert stored_files(world) == {f"{world.account}/u-2/b.bin": b""}
    again = await world.http.delete(f"/accounts/{world.account}/uploads/u-1", headers=world.headers)
    assert again.json()["error"]["code"] == "UploadNotFound"


async def test_render_servers_are_told_the_folder(world: Any) -> None:
    await put(world, "u/a.glb", b"x")
    await world.create()
    assert (Path(world.fleet.assigned[0].uploads_folder) / "u" / "a.glb").read_bytes() == b"x"


@pytest.mark.parametrize(
    "path",
    [
        "u/../../x",
        "u/%2e%2e/%2e%2e/x",
        "u/..%2f..%2fx",
        "u/a%2Fb",
        "u//x",
        "u/x/",
        "u/.",
        "u/a%00b",
        "u/a%0Ab",
        "u/..%5Cx",
        "u/%FF",
        "u/" + "x" * 256,
        "u/" + "/".join(["x" * 200] * 6),
        "u/" + "/".join("x" * 33),
        "../x/y",
        "%2e%2e/x",
        "u.v/x",
        "x" * 129 + "/a",
    ],
)
async def test_paths_that_lead_elsewhere(world: Any, path: str) -> None:
    # Written by hand: HTTP clients resolve dots before they send.
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.http_url.rsplit(":", 1)[1]))
    request = (
        f"PUT /accounts/{world.account}/uploads/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Authorization: {world.headers['Authorization']}\r\nContent-Length: 1\r\n\r\nx"
    )
    writer.write(request.encode())
    async with asyncio.timeout(60):
        answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 400 "), answer
    assert stored_files(world) == {}
    assert [entry.name for entry in (world.folder / "uploads").iterdir()] == [".incoming"]


@given(st.lists(st.text(max_size=12), max_size=6))
def test_a_checked_path_stays_inside(segments: list[str]) -> None:
    try:
        path = check_path(segments)
    except BadRequest:
        return
    root = Path("/root/account/upload")
    target = Path(os.path.normpath(root.joinpath(*path.split("/"))))
    assert target.is_relative_to(root)
    assert target != root
    assert list(target.relative_to(root).parts) == segments
    assert upload_uri("u", path).isascii()


async def test_only_the_own_account(world: Any) -> None:
    other = world.bearer(account="00000000-0000-4000-8000-000000000000")
    assert (await put(world, "u/x", b"x", headers=other)).status_code == 403
    refused = await put(world, "u/x", b"x", headers={})
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "Unauthorized"
    assert "api-supported-versions" not in refused.headers
    assert stored_files(world) == {}


async def test_a_session_token_may_upload_and_nothing_else(world: Any) -> None:
    headers = world.bearer(role=Role.CLIENT, session="s")
    assert (await put(world, "u/x", b"x", headers=headers)).status_code == 201
    url = f"/accounts/{world.account}/uploads"
    assert (await world.http.get(url, headers=headers)).status_code == 403
    assert (await world.http.delete(f"{url}/u", headers=headers)).status_code == 403


async def chunks(count: int, size: int = 1000) -> Any:
    for _ in range(count):
        yield b"x" * size


async def test_quota(make_world: Any) -> None:
    async with make_world(upload_quota_bytes=10_000, upload_file_bytes=8_000) as world:
        assert (await put(world, "u/a", b"x" * 6_000)).status_code == 201
        for content in (b"x" * 5_000, chunks(5)):
            response = await put(world, "u/b", content)
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "UploadQuotaExceeded"
        for content in (b"x" * 8_001, chunks(9)):
            response = await put(world, "u/b", content)
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "UploadTooLarge"
        assert list(stored_files(world)) == [f"{world.account}/u/a"]
        assert (await put(world, "u/b", chunks(4))).status_code == 201
        await world.http.delete(f"/accounts/{world.account}/uploads/u", headers=world.headers)
        assert (await put(world, "u/c", b"x" * 8_000)).status_code == 201


async def test_uploads_side_by_side_share_the_quota(make_world: Any) -> None:
    async with make_world(upload_quota_bytes=10_000) as world:
        responses = await asyncio.gather(*(put(world, f"u/{i}", chunks(4)) for i in range(8)))
        done = [response for response in responses if response.status_code == 201]
        assert {response.status_code for response in responses} == {201, 413}
        assert sum(len(content) for content in stored_files(world).values()) == 4_000 * len(done) <= 10_000


async def test_number_of_files(make_world: Any) -> None:
    async with make_world(upload_max_files=2) as world:
        assert (await put(world, "u/a", b"")).status_code == 201
        assert (await put(world, "u/b", b"")).status_code == 201
        assert (await put(world, "v/c", b"")).json()["error"]["code"] == "UploadQuotaExceeded"
        assert (await put(world, "u/a", b"again")).status_code == 200


@pytest.mark.parametrize("encoding", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_truncated_body_leaves_nothing(world: Any, encoding: str) -> None:
    _reader, writer = await asyncio.open_connection("127.0.0.1", int(world.http_url.rsplit(":", 1)[1]))
    head = (
        f"PUT /accounts/{world.account}/uploads/u/x HTTP/1.1\r\nHost: a\r\n"
        f"Authorization: {world.headers['Authorization']}\r\n{encoding}\r\n\r\n"
    )
    body = b"x" * 5_000 if "Length" in encoding else b"1388\r\n" + b"x" * 5_000 + b"\r\n"
    writer.write(head.encode() + body)
    await writer.drain()

    async def arriving() -> bool:
        return bool(list((world.folder / "uploads" / ".incoming").iterdir()))

    await world.until(arriving)
    writer.close()

    async def gone() -> bool:
        return not await arriving()

    await world.until(gone)
    assert stored_files(world) == {}
    listing = (await world.http.get(f"/accounts/{world.account}/uploads", headers=world.headers)).json()
    assert listing["uploads"] == []
    assert (await put(world, "u/x", b"whole")).status_code == 201


async def test_a_file_and_a_folder_of_one_name(world: Any) -> None:
    await put(world, "u/a", b"x")
    response = await put(world, "u/a/b", b"x")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "UploadConflict")
    await put(world, "u/d/e", b"x")
    response = await put(world, "u/d", b"x")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "UploadConflict")
    assert sorted(stored_files(world)) == [f"{world.account}/u/a", f"{world.account}/u/d/e"]


async def test_retention(make_world: Any) -> None:
    async with make_world(upload_retention_hours=2) as world:
        await put(world, "old/a", b"x")
        world.clock.advance(minutes=90)
        await put(world, "new/a", b"x")
        world.clock.advance(minutes=30)

        async def only_new() -> bool:
            return list(stored_files(world)) == [f"{world.account}/new/a"]

        await world.until(only_new)
        await put(world, "new/b", b"y")
        world.clock.advance(minutes=100)
        listing = (await world.http.get(f"/accounts/{world.account}/uploads", headers=world.bearer())).json()
        assert [file["path"] for file in listing["uploads"]] == ["a", "b"], "the whole upload lives on"


async def test_a_restart_clears_what_was_half_done(make_world: Any) -> None:
    async with make_world() as world:
        await put(world, "u/a", b"x")
        (world.folder / "uploads" / ".incoming" / "left").write_bytes(b"x")
        orphan = world.folder / "uploads" / world.account / "orphan"
        orphan.mkdir()
        (orphan / "f").write_bytes(b"x")
    async with make_world() as world:
        assert list(stored_files(world)) == [f"{world.account}/u/a"]


async def test_pages(world: Any) -> None:
    for i in range(53):
        await put(world, f"u/{i:02d}%20ä", b"x")
        world.clock.advance(seconds=1)
    first = (await world.http.get(f"/accounts/{world.account}/uploads", headers=world.headers)).json()
    assert len(first["uploads"]) == 50
    second = (await world.http.get(first["@nextLink"], headers=world.headers)).json()
    assert "@nextLink" not in second
    assert [file["path"][:2] for file in first["uploads"] + second["uploads"]] == [f"{i:02d}" for i in range(53)]
    bad = await world.http.get(f"/accounts/{world.account}/uploads?skiptoken=%FF", headers=world.headers)
    assert bad.status_code == 400
