from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farframe.cli import main

COMMANDS = [
    [],
    ["up"],
    ["session"],
    ["session", "create"],
    ["session", "list"],
    ["session", "show"],
    ["session", "extend"],
    ["session", "stop"],
    ["session", "inspect"],
    ["render"],
    ["view"],
    ["version"],
]


def farframe(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARFRAME_")}
    return subprocess.run(
        [sys.executable, "-m", "farframe.cli", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment, "COLUMNS": "100", "TERM": "dumb", **variables},
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: farframe")
    assert "--connection" in out
    assert err == ""


def test_the_longer_commands_teach_by_example() -> None:
    for command in ("up", "render", "view"):
        assert f"    farframe {command} " in farframe(command, "--help").stdout


def test_the_exit_code_reaches_the_shell() -> None:
    assert farframe("nonsense").returncode == 2
    assert farframe("--help").returncode == 0


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from farframe.cli import main; main(['--help']);"
        "heavy = {'numpy', 'av', 'aiortc', 'httpx', 'PIL', 'wgpu', 'farframe.service'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_version_is_told() -> None:
    from farframe import __version__

    assert f"farframe {__version__}" in farframe("version").stdout
    assert json.loads(farframe("version", "--json").stdout)["farframe"] == __version__
    assert farframe("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["session", "nonsense"],
        ["session", "show"],
        ["session", "create", "--size", "gigantic"],
        ["session", "extend", "demo", "none"],
        ["session", "extend", "demo", "1441"],
        ["render", "builtin://Engine"],
        ["render", "builtin://Engine", "--out", "x.png", "--size", "huge"],
        ["render", "builtin://Engine", "--out", "x.png", "--size", "1281x720"],
        ["render", "builtin://Engine", "--out", "x.png", "--eye", "1,2"],
        ["render", "builtin://Engine", "--out", "x.png", "--eye", "1,2,nan"],
        ["up", "--port", "70000"],
        ["up", "--servers", "standard"],
        ["up", "--servers", "standard=0"],
        ["up", "--adapter", "quantum"],
        ["session", "list", "--colour", "red"],
    ],
    ids=" ".join,
)
def test_misuse_is_one_sentence_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("farframe: ")
    assert line.endswith("--help`.")


@pytest.mark.parametrize(
    "words",
    [
        ["session", "list"],
        ["session", "create"],
        ["view"],
        ["view", "--console"],
        ["render", "builtin://Engine", "--out", "x.png"],
    ],
    ids=" ".join,
)
def test_without_a_service_every_command_says_how_to_start_one(words: list[str], tmp_path: Path) -> None:
    done = farframe(*words, FARFRAME_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("farframe: No service is running here")
    assert "`farframe up`" in line


def connection_file(folder: Path, port: int) -> Path:
    path = folder / "connection.json"
    endpoint = f"http://127.0.0.1:{port}"
    content = {"endpoint": endpoint, "stsEndpoint": endpoint, "accountId": "a", "accountKey": "the-secret-key"}
    path.write_text(json.dumps(content))
    return path


def test_a_service_that_is_gone_is_one_sentence_wherever_its_file_is_named(tmp_path: Path) -> None:
    # Port 1 is nobody's: the connection is refused at once.
    path = connection_file(tmp_path, 1)
    for done in (
        farframe("--connection", path, "session", "list"),
        farframe("session", "list", "--connection", path),
        farframe("session", "list", FARFRAME_CONNECTION=str(path)),
    ):
        assert done.returncode == 1
        assert done.stderr == (
            "farframe: Nothing answers at http://127.0.0.1:1. "
            "Start the service with `farframe up`, or check the address in the connection file.\n"
        )


def test_tracebacks_are_for_those_who_ask(tmp_path: Path) -> None:
    path = connection_file(tmp_path, 1)
    for done in (
        farframe("session", "list", "--connection", path, "--debug"),
        farframe("session", "list", "--connection", path, FARFRAME_DEBUG="1"),
    ):
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "the-secret-key" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.bmp"], "picture's ending"),
        (["--out", "nowhere/x.png"], "no folder nowhere"),
        (["--out", "x.png", "--fov", "0"], "field of view"),
        (["--out", "x.png", "--eye", "-1,2,3", "--target", "-1,2,3"], "same point"),
    ],
)
def test_a_render_that_cannot_work_is_refused_before_anything_is_leased(
    words: list[str], message: str, tmp_path: Path
) -> None:
    done = farframe("render", "builtin://Engine", *words, "--connection", connection_file(tmp_path, 1))
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize("words", [["demo", "--console"], ["--console", "--watch"]], ids=" ".join)
def test_the_console_is_for_the_whole_account(words: list[str], tmp_path: Path) -> None:
    done = farframe("view", *words, "--connection", connection_file(tmp_path, 1))
    assert done.returncode == 1
    assert "leave out the session and --watch" in done.stderr


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    path = connection_file(tmp_path, 1)
    done = farframe("render", "nothing.glb", "--out", tmp_path / "x.png", "--connection", path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("farframe: There is no file nothing.glb. ")


def test_options_of_up_become_the_services_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farframe.cli import _up

    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    config = tmp_path / "farframe.toml"
    config.write_text("")
    calls = []
    monkeypatch.setattr(_up.os, "execve", lambda *arguments: calls.append(arguments))
    words = "up --data data --host 0.0.0.0 --port 9443 --http-port 0 --region north --servers Standard=2,premium=1"
    words += " --public-name render.example.org --public-address 203.0.113.7 --public-address 2001:db8::7"
    words += " --config farframe.toml --allow-folder models --adapter cpu --log-json"
    assert main(words.split()) == 0
    ((program, arguments, environment),) = calls
    assert (program, arguments) == (sys.executable, [sys.executable, "-m", "farframe.service"])
    expected = {
        "FARFRAME_DATA_DIR": str(tmp_path / "data"),
        "FARFRAME_HOST": "0.0.0.0",
        "FARFRAME_PORT": "9443",
        "FARFRAME_HTTP_PORT": "0",
        "FARFRAME_REGION": "north",
        "FARFRAME_SERVERS": "standard=2,premium=1",
        "FARFRAME_PUBLIC_NAME": "render.example.org",
        "FARFRAME_PUBLIC_ADDRESSES": "203.0.113.7,2001:db8::7",
        "FARFRAME_CONFIG": str(config),
        "FARFRAME_ALLOWED_FOLDERS": str(tmp_path / "models"),
        "FARFRAME_ADAPTER": "cpu",
        "FARFRAME_LOG_FORMAT": "json",
    }
    assert {name: environment[name] for name in expected} == expected


def test_the_service_knows_all_these_settings() -> None:
    from farframe.cli._up import environment_of
    from farframe.service.config import CONFIG_KEYS, environment_name

    given = environment_of(
        data=Path("data"),
        host="h",
        port=1,
        http_port=1,
        region="r",
        servers="standard=1",
        public_name="n",
        public_addresses=["127.0.0.1"],
        allow_folders=[Path()],
        adapter="cpu",
        log_json=True,
        debug=True,
    )
    assert set(given) <= {environment_name(key) for key in CONFIG_KEYS}
    assert len(given) == 12


@pytest.mark.parametrize("words", [["--allow-folder", "nothing"], ["--config", "nothing.toml"]])
def test_up_with_a_folder_or_file_that_is_not_there(words: list[str], tmp_path: Path) -> None:
    done = farframe("up", *words)
    assert done.returncode == 1
    assert "nothing" in done.stderr
