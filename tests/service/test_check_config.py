"""``farframe config check``: it names the wrong key and what it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farframe.cli._app import run
from farframe.service import check_config
from farframe.service.config import CONFIG_KEYS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('port = "x"', ["port", "FARFRAME_PORT", "a whole number"]),
        ("prot = 1", ["prot", "Did you mean port?", "takes a whole number"]),
        ('log_format = "xml"', ["log_format", "one of auto, console, json"]),
        ("stun_servers = 5", ["stun_servers", "a list of texts"]),
        ('[servers]\nstandard = "many"', ["servers", "a table of names and whole numbers"]),
        ('tls_key_file = "/k.pem"', ["tls_certificate_file and tls_key_file", "both or neither"]),
        ('metrics_address = "everywhere"', ["metrics_address", "127.0.0.1:9464"]),
        ('[regions]\nnorth = "http://north.example.net"', ["regions", "https://"]),
        ('region = "a"\n[regions]\na = "https://a.example.net"', ["regions", "'a'"]),
        ("port = ", ["not valid TOML"]),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: list[str]) -> None:
    file = tmp_path / "farframe.toml"
    file.write_text(content)
    assert check_config.main([str(file)]) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error


def test_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "farframe.toml"
    file.write_text('port = 9000\nregion = "north"\n')
    assert check_config.main([str(file)]) == 0
    assert 'region = "north"' in capsys.readouterr().out


def test_passwords_are_not_printed() -> None:
    assert check_config._PASSWORD_IN_URL.sub(r"\1:***@", "postgresql://u:s3cret@h/db") == "postgresql://u:***@h/db"


@pytest.mark.parametrize("key", CONFIG_KEYS)
def test_every_key_takes_something(key: str) -> None:
    assert check_config.takes(key)


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "farframe.toml"
    file.write_text("prot = 1")
    command = [sys.executable, "-m", "farframe.cli", "config", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Did you mean port?" in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", str(tmp_path / "none.toml")]) == 1
    assert "none.toml" in capsys.readouterr().err
