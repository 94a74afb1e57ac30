"""``farframe backup`` and ``farframe restore`` as commands."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from farframe.store.store import Store


def farframe(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARFRAME_")}
    command = [sys.executable, "-m", "farframe.cli", *words]
    return subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, check=False)


async def make(folder: Path) -> None:
    folder.mkdir()
    store = await Store.open(folder / "farframe.db")
    await store.accounts.create("a", "one", 1)
    await store.close()


def test_from_a_file_to_postgresql(tmp_path: Path, postgres_url: str) -> None:
    asyncio.run(make(tmp_path / "data"))
    file = str(tmp_path / "x.farframe")
    made = farframe("backup", file, "--data", str(tmp_path / "data"))
    assert made.returncode == 0, made.stderr
    again = farframe("backup", file, "--data", str(tmp_path / "data"))
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    restored = farframe("restore", file, "--data", str(tmp_path / "other"), FARFRAME_DATABASE_URL=postgres_url)
    assert restored.returncode == 0, restored.stderr

    async def names() -> list[str]:
        store = await Store.open(postgres_url)
        try:
            first = await store.accounts.first()
            return [first.name] if first is not None else []
        finally:
            await store.close()

    assert asyncio.run(names()) == ["one"]
    refused = farframe("restore", file, FARFRAME_DATABASE_URL=postgres_url)
    assert refused.returncode == 1
    assert "not empty" in refused.stderr


def test_what_cannot_be_backed_up_or_restored(tmp_path: Path) -> None:
    nothing = farframe("backup", str(tmp_path / "x"), "--data", str(tmp_path / "nothing"))
    assert nothing.returncode == 1
    assert "There is no database" in nothing.stderr
    missing = farframe("restore", str(tmp_path / "x"), "--data", str(tmp_path / "data"))
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
