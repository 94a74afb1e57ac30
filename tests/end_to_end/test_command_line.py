"""The ``farframe`` command against a real service, as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from farframe.client import ConnectionInfo
from tests.end_to_end.harness import RunningService, spread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SESSION = "by-hand"

WITHOUT_END = """
import asyncio, sys
from farframe.cli import main
from farframe.client import RuntimeConnection
async def wait_for_still(self, timeout=0.0):
    await asyncio.get_running_loop().create_future()
RuntimeConnection.wait_for_still = wait_for_still
sys.exit(main())
"""


class Terminal:
    """Runs commands in a folder; an own connection file stands for the one that a person would name."""

    def __init__(self, connection_path: Path, folder: Path) -> None:
        self.connection_path = connection_path
        self.folder = folder

    def start(self, *words: str | Path, without_end: bool = False) -> subprocess.Popen[str]:
        """Begin a command. ``without_end``: no picture is ever at rest for it, so that it waits until it is ended."""
        program = ["-c", WITHOUT_END] if without_end else ["-m", "farframe.cli"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FARFRAME_")}
        return subprocess.Popen(
            [sys.executable, *program, "--connection", str(self.connection_path), *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**environment, "TERM": "dumb", "COLUMNS": "100", "TZ": "UTC"},
        )

    def run(self, *words: str | Path, code: int = 0) -> tuple[str, str]:
        """What a command printed on standard output and standard error, if it ended with ``code``."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        assert process.returncode == code, f"{words} ended with {process.returncode}:\n{out}\n{err}"
        return out, err

    def json(self, *words: str | Path) -> object:
        return json.loads(self.run(*words, "--json")[0])

    def fails(self, *words: str | Path) -> str:
        """The one sentence (and next step) that a command fails with."""
        out, err = self.run(*words, code=1)
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("farframe: ")
        assert line.endswith(".")
        assert "Traceback" not in line
        return line


@pytest.fixture
def terminal(service: RunningService, tmp_path: Path) -> Terminal:
    return Terminal(service.connection_path, tmp_path)


@pytest.fixture(scope="module")
def session(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A session that lives as long as this module's tests, leased from the command line."""
    terminal = Terminal(service.connection_path, tmp_path_factory.mktemp("session"))
    made = terminal.json("session", "create", SESSION, "--lease-minutes", "20")
    assert made["id"] == SESSION
    assert made["status"] == "Ready"
    assert made["size"] == "Standard"
    assert made["leaseMinutes"] == 20
    assert made["teraflops"] > 0
    yield SESSION
    out, err = terminal.run("session", "stop", SESSION)
    assert "Stopped" in out
    assert err == ""
    assert SESSION not in [item["id"] for item in terminal.json("session", "list")]
    # Still to be seen after its end, and stopping twice is no mistake.
    assert terminal.json("session", "show", SESSION)["status"] == "Stopped"
    terminal.run("session", "stop", SESSION)


def test_a_session_is_listed_shown_and_extended(terminal: Terminal, session: str) -> None:
    out, err = terminal.run("session", "list")
    head, *rows = out.splitlines()
    assert head.split() == ["ID", "STATUS", "SIZE", "MINUTES", "CREATED", "HOST"]
    (row,) = [row.split() for row in rows if row.startswith(session)]
    assert row[1:3] == ["Ready", "Standard"]
    assert row[3].endswith("/20")
    assert err == ""
    assert terminal.json("session", "extend", session, "30")["leaseMinutes"] == 30
    # The contract speaks of a total, so that the same number again is no extension.
    terminal.fails("session", "extend", session, "30")
    out, _ = terminal.run("session", "show", session)
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert facts["id"] == session
    assert facts["status"] == "Ready"
    assert facts["lease"].endswith("of 30 minutes used")
    assert facts["handshake"].startswith("https://")
    shown = terminal.json("session", "show", session)
    assert shown["handshakePort"] != shown["inspectorPort"]
    age = datetime.now(UTC) - datetime.fromisoformat(shown["creationTime"])
    assert 0 <= age.total_seconds() < 600


def test_the_viewer_link_works_once(terminal: Terminal, session: str) -> None:
    out, err = terminal.run("view", session)
    url = urlsplit(out.strip())
    assert url.scheme in ("http", "https")
    assert f"farframe session stop {session}" in err
    name, _, code = url.fragment.partition("=")
    assert name == "link"
    origin = f"{url.scheme}://{url.netloc}"
    with httpx.Client(base_url=origin, trust_env=False, timeout=60) as http:
        assert http.get(url.path).status_code == 200
        first = http.post("/viewer-links/redeem", json={"code": code})
        assert first.status_code == 200
        redeemed = first.json()
        assert redeemed["sessionId"] == session
        path = f"/accounts/{redeemed['accountId']}/sessions/{session}?api-version=2021-01-01"
        headers = {"Authorization": f"Bearer {redeemed['accessToken']}"}
        assert http.get(path, headers=headers).json()["status"] == "Ready"
        second = http.post("/viewer-links/redeem", json={"code": code})
        assert second.status_code == 410
        assert second.json()["error"]["code"] == "LinkUsed"


def test_the_console_link_is_printed_again_whenever_it_is_asked_for(terminal: Terminal, session: str) -> None:
    shown = terminal.json("view", "--console")
    url = urlsplit(shown["url"])
    assert url.path == "/"
    with httpx.Client(base_url=f"{url.scheme}://{url.netloc}", trust_env=False, timeout=60) as http:
        redeemed = http.post("/viewer-links/redeem", json={"code": url.fragment.removeprefix("link=")}).json()
        path = f"/accounts/{redeemed['accountId']}/sessions?api-version=2021-01-01"
        listed = http.get(path, headers={"Authorization": f"Bearer {redeemed['accessToken']}"}).json()
    assert session in [item["id"] for item in listed["sessions"]]


def test_the_inspector_link_opens_the_ledger_of_its_session(terminal: Terminal, session: str) -> None:
    shown = terminal.json("session", "inspect", session)
    url = urlsplit(shown["url"])
    assert datetime.fromisoformat(shown["expiresAt"]) > datetime.now(UTC)
    assert url.port == terminal.json("session", "show", session)["inspectorPort"]
    name, _, token = url.fragment.partition("=")
    assert name == "token"
    trusted = ConnectionInfo.from_file(terminal.connection_path).ssl_context()
    with httpx.Client(base_url=f"https://{url.netloc}", verify=trusted, trust_env=False, timeout=60) as http:
        assert http.get("/").status_code == 200
        with http.stream("GET", "/log", headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status_code == 200
            assert "event" in json.loads(next(answer.iter_lines()))
    out, _ = terminal.run("session", "inspect", session)
    assert out.startswith(f"https://{url.netloc}/#token=")


@pytest.mark.parametrize("model", ["BoxTextured", "Duck.glb"])
def test_local_models_are_uploaded_and_rendered(
    terminal: Terminal, session: str, models_folder: Path, model: str
) -> None:
    facts = terminal.json(
        "render", models_folder / model, "--out", "model.jpg", "--size", "320x180", "--session", session
    )
    assert facts["triangles"] == {"BoxTextured": 12, "Duck.glb": 4212}[model]
    with Image.open(terminal.folder / "model.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (320, 180))
        image = np.asarray(picture.convert("RGB"))
    # The model fills the picture and hides the grey backdrop: colours, light and shade.
    assert spread(image) > 10
    assert int(np.ptp(image.astype(int), axis=2).max()) > 40
    assert terminal.json("session", "show", session)["status"] == "Ready"


def test_models_that_cannot_be_read_are_told_in_one_sentence(terminal: Terminal, session: str) -> None:
    def render(model: str) -> str:
        return terminal.fails("render", model, "--out", "x.png", "--session", session)

    assert "There is no file missing.glb" in render("missing.glb")
    (terminal.folder / "broken.glb").write_bytes(b"glTF" + bytes(96))
    for model, why in (
        ("broken.glb", "glTF"),
        ("upload://nobody/x.glb", "no such uploaded file"),
        ("file:///etc/passwd", "folder"),
    ):
        assert why in render(model)
    assert not (terminal.folder / "x.png").exists()


def test_one_command_from_nothing_to_a_picture(terminal: Terminal) -> None:
    before = {item["id"] for item in terminal.json("session", "list")}
    out, err = terminal.run("render", "builtin://Engine", "--out", "engine.png", "--size", "640x360")
    assert out.startswith("engine.png: 640x360, ")
    assert "triangles" in out
    assert err == "", "progress is for terminals"
    with Image.open(terminal.folder / "engine.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (640, 360))
        assert spread(np.asarray(picture)) > 15
    assert {item["id"] for item in terminal.json("session", "list")} == before, "the session that it leased lives on"


def test_an_interrupted_render_gives_its_server_back(terminal: Terminal) -> None:
    before = {item["id"] for item in terminal.json("session", "list")}
    process = terminal.start("render", "builtin://Engine", "--out", "engine.png", "--size", "640x360", without_end=True)
    try:
        deadline = time.monotonic() + 120
        while {item["id"] for item in terminal.json("session", "list")} == before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")
    assert {item["id"] for item in terminal.json("session", "list")} == before
    assert not (terminal.folder / "engine.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["session", "extend", "nobody", "30"],
        ["session", "inspect", "nobody"],
        ["view", "nobody"],
        ["render", "builtin://Engine", "--out", "x.png", "--session", "nobody"],
    ],
    ids=" ".join,
)
def test_a_session_that_does_not_exist(terminal: Terminal, words: list[str]) -> None:
    assert "nobody does not exist" in terminal.fails(*words)


def test_a_connection_file_that_does_not_fit(service: RunningService, tmp_path: Path) -> None:
    path = tmp_path / "connection.json"
    terminal = Terminal(path, tmp_path)
    assert f"There is no connection file {path}" in terminal.fails("session", "list")
    path.write_text("not json")
    assert "is not a connection file" in terminal.fails("session", "list")
    connection = service.connection
    path.write_text(json.dumps({**connection, "accountKey": "wrong-key"}))
    line = terminal.fails("session", "list")
    assert "accountKey" in line
    assert "wrong-key" not in line
    # Port 1 is nobody's: the connection is refused at once.
    gone = {"endpoint": "https://localhost:1", "stsEndpoint": "https://localhost:1"}
    path.write_text(json.dumps({**connection, **gone}))
    assert "Nothing answers at https://localhost:1" in terminal.fails("session", "list")
