from __future__ import annotations

import json
from pathlib import Path

import pytest

from farframe.client import ConnectionFileError, ConnectionInfo
from farframe.paths import default_data_dir

CONTENT = {
    "endpoint": "https://localhost:8443/",
    "stsEndpoint": "https://localhost:8443",
    "httpUrl": "http://localhost:8080",
    "consoleUrl": "https://localhost:8443/console",
    "accountId": "00000000-0000-4000-8000-000000000001",
    "accountKey": "a secret nobody may see",
    "accountDomain": "localhost",
    "caBundle": "ca.pem",
    "region": "local",
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "connection.json"
    path.write_text(json.dumps({**CONTENT, **changes}))
    return path


def test_a_file_is_read_and_its_secret_is_masked(tmp_path: Path) -> None:
    info = ConnectionInfo.from_file(write(tmp_path))
    assert info.endpoint == "https://localhost:8443"
    assert info.account_key == CONTENT["accountKey"]
    assert info.ca_bundle == tmp_path / "ca.pem"
    assert "secret" not in repr(info)


def test_a_data_folder_stands_for_the_file_in_it(tmp_path: Path) -> None:
    write(tmp_path)
    assert ConnectionInfo.from_file(tmp_path).region == "local"


def test_the_argument_wins_over_the_environment_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {name: tmp_path / name for name in ("argument", "variable", "default")}
    for name, folder in folders.items():
        folder.mkdir()
        write(folder, region=name)
    monkeypatch.setenv("FARFRAME_DATA_DIR", str(folders["default"]))
    monkeypatch.delenv("FARFRAME_CONNECTION", raising=False)
    assert ConnectionInfo.find().region == "default"
    monkeypatch.setenv("FARFRAME_CONNECTION", str(folders["variable"] / "connection.json"))
    assert ConnectionInfo.find().region == "variable"
    assert ConnectionInfo.find(folders["argument"]).region == "argument"


def test_without_a_service_the_error_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARFRAME_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.delenv("FARFRAME_CONNECTION", raising=False)
    with pytest.raises(ConnectionFileError, match="farframe up"):
        ConnectionInfo.find()


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FARFRAME_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "farframe"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"endpoint": 3}',
        json.dumps({**CONTENT, "endpoint": "http://render.example.org"}),
        json.dumps({**CONTENT, "stsEndpoint": "ftp://localhost"}),
        json.dumps({**CONTENT, "endpoint": "https://[broken"}),
        json.dumps({**CONTENT, "accountKey": ["a secret nobody may see"]}),
        " " * 70_000,
    ],
)
def test_other_files_are_refused_without_telling_secrets(tmp_path: Path, text: str) -> None:
    path = tmp_path / "connection.json"
    path.write_text(text)
    with pytest.raises(ConnectionFileError) as caught:
        ConnectionInfo.from_file(path)
    assert "secret" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_certificate_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFileError, match=r"ca\.pem"):
        ConnectionInfo.from_file(write(tmp_path)).ssl_context()
