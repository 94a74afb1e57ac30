"""Archives: everything comes back, from either kind of database into either kind; broken files are refused whole."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

import pytest
from sqlalchemy import select

from farframe.store.archive import read_archive, write_archive
from farframe.store.database import StoreError
from farframe.store.schema import metadata
from farframe.store.sessions import NewSession, Refusal, ServerColumns
from farframe.store.store import Store

SERVER = ServerColumns(server_id="s", pid=1, hostname="h", handshake_port=1, inspector_port=2, teraflops=0.125)


async def filled(source: Path | str) -> None:
    store = await Store.open(source)
    await store.accounts.create("a", "ünïcode \U0001f600", 1)
    await store.accounts.set_key("a", 1, bytes(range(48)), 2)
    await store.uploads.put("a", "u", "b/c", size=2**40, now=1, expires_at=5)
    await store.links.add(b"\x00" * 32, "a", None, now=1, expires_at=2)
    for i in range(1200):
        new = NewSession(key=f"k{i}", account_id="a", id=f"s{i}", size="Standard", lease_minutes=9, created_at=i)
        if i < 3:
            await store.sessions.create(new, limit=9, refusal=Refusal(code="c", message="m"))
    await store.sessions.mark_ready("k0", SERVER, 50)
    await store.sessions.mark_stopped("k0", 70)
    await store.replicas.announce("r", "https://x", 1)
    await store.close()


async def everything(source: Path | str) -> dict[str, list[tuple[object, ...]]]:
    store = await Store.open(source)
    try:
        async with store._database.read() as connection:
            return {
                table.name: [
                    tuple(row) for row in await connection.execute(select(table).order_by(*table.primary_key.columns))
                ]
                for table in metadata.sorted_tables
                if table.name != "replicas"
            }
    finally:
        await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_everything_comes_back(
    database_source: Path | str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await filled(database_source)
    archive = tmp_path / "x.farframe"
    rows = await write_archive(database_source, archive, 5)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    target: Path | str = tmp_path / "copy.db"
    if kind == "postgresql":
        server = request.getfixturevalue("postgres_server")
        target = server.create_database()
        request.addfinalizer(lambda: server.drop_database(target))
    assert await read_archive(archive, target) == rows
    assert await everything(target) == await everything(database_source)
    with pytest.raises(StoreError, match="not empty"):
        await read_archive(archive, target)
    with pytest.raises(FileExistsError):
        await write_archive(database_source, archive, 6)


async def test_an_archive_that_was_cut_off_or_changed_leaves_nothing(tmp_path: Path) -> None:
    await filled(tmp_path / "x.db")
    await write_archive(tmp_path / "x.db", tmp_path / "whole", 5)
    lines = gzip.decompress((tmp_path / "whole").read_bytes()).splitlines(keepends=True)
    broken = {
        "cut": (tmp_path / "whole").read_bytes()[:-40],
        "short": gzip.compress(b"".join(lines[:-1])),
        "missing": gzip.compress(b"".join(lines[:2] + lines[3:])),
        "table": gzip.compress(lines[0] + b'["nothing",{}]\n'),
        "other": b"no archive",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match="not a whole archive"):
            await read_archive(tmp_path / name, tmp_path / "target.db")
    assert await read_archive(tmp_path / "whole", tmp_path / "target.db") == len(lines) - 2
