"""Configuration: files, variables, mistakes; the documentation names every key. Log masking."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from farframe.auth.masking import mask_secrets, mask_text
from farframe.service.config import CONFIG_KEYS, ConfigError, ServiceConfig, environment_name, load_config

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_defaults() -> None:
    config = load_config({})
    assert (config.host, config.port, config.http_port) == ("127.0.0.1", 8443, 8080)
    assert config.servers == {"standard": 2, "premium": 1}
    assert config.limit("Standard") == 2
    assert config.limit("Huge") == 0


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "farframe.toml"
    file.write_text('port = 1\nhttp_port = 2\nregion = "cellar"\n[servers]\nstandard = 7\n')
    config = load_config({"FARFRAME_CONFIG": str(file), "FARFRAME_PORT": "3"}, http_port=4)
    assert (config.port, config.http_port, config.region, config.servers) == (3, 4, "cellar", {"standard": 7})


def test_every_kind_of_variable() -> None:
    config = load_config(
        {
            "FARFRAME_SERVERS": "standard=4, premium=0",
            "FARFRAME_PUBLIC_ADDRESSES": "192.0.2.1, 2001:db8::1",
            "FARFRAME_STUN_SERVERS": "",
            "FARFRAME_UPLOAD_RETENTION_HOURS": "0.5",
            "FARFRAME_ADAPTER": "cpu",
            "FARFRAME_TEST_MODELS": "/models",
            "FARFRAME_SOMETHING_ELSE_ENTIRELY": "1",
            "HOME": "/",
        }
    )
    assert config.servers == {"standard": 4, "premium": 0}
    assert config.public_addresses == ("192.0.2.1", "2001:db8::1")
    assert config.stun_servers == ()
    assert config.upload_retention_hours == 0.5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"FARFRAME_PROT": "1"}, "FARFRAME_PORT"),
        ({"FARFRAME_PORT": "many"}, "port"),
        ({"FARFRAME_PORT": "70000"}, "port must be"),
        ({"FARFRAME_SERVERS": "standard"}, "standard=2,premium=1"),
        ({"FARFRAME_SERVERS": "huge=1"}, "huge"),
        ({"FARFRAME_SERVERS": "standard=0"}, "at least one"),
        ({"FARFRAME_PORT_MIN": "1000"}, "49152"),
        ({"FARFRAME_PORT_MIN": "60000", "FARFRAME_PORT_MAX": "50000"}, "range"),
        ({"FARFRAME_ADAPTER": "tpu"}, "adapter"),
        ({"FARFRAME_ALLOWED_FOLDERS": "models"}, "absolute"),
        ({"FARFRAME_ALLOWED_NETWORKS": "10.0.0.0/99"}, "10.0.0.0/99"),
        ({"FARFRAME_PUBLIC_ADDRESSES": "example.net"}, "example.net"),
        ({"FARFRAME_PUBLIC_NAME": "a b"}, "public_name"),
        ({"FARFRAME_CORS_ORIGINS": "*"}, "cors_origins"),
        ({"FARFRAME_PUBLIC_URL": "https://a/b"}, "public_url"),
        ({"FARFRAME_TOKEN_ISSUER": "why?"}, "token_issuer"),
        ({"FARFRAME_LOG_LEVEL": "loud"}, "log_level"),
        ({"FARFRAME_CONFIG": "/nothing.toml"}, "/nothing.toml"),
    ],
)
def test_mistakes_are_named(values: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "Did you mean port?"),
        ("zzzzzz = 1", "docs/configuration.md"),
        ("port = ", "not valid TOML"),
        ('port = "x"', "port"),
        ("servers = 3", "servers"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "farframe.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config({}, file=file)
    assert words in str(caught.value)


def test_an_unknown_option() -> None:
    with pytest.raises(ConfigError, match="Did you mean region"):
        load_config({}, regoin="x")


def test_every_key_is_documented_with_its_variable() -> None:
    text = DOCUMENT.read_text()
    documented = re.findall(r"^\| `(\w+)` \| `(FARFRAME_\w+)` \|", text, re.MULTILINE)
    assert sorted(documented) == sorted((key, environment_name(key)) for key in CONFIG_KEYS)


def test_the_documented_examples_are_valid(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        file = tmp_path / "farframe.toml"
        file.write_text(example)
        assert load_config({}, file=file) != ServiceConfig()


def test_secrets_are_masked() -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"
    text = mask_text(
        f"key ffk_{'a' * 43} link ffl_{'b' * 43} operator ffo_{'c' * 43} Bearer abc:def {token} https://x/y?sv=1&sig=s3cret&x=1"
    )
    assert "aaa" not in text
    assert "bbb" not in text
    assert "ccc" not in text
    assert "abc:def" not in text
    assert token not in text
    assert "s3cret" not in text
    assert "sv=1" in text
    event = mask_secrets(None, "info", {"event": "x", "access_token": "t", "account_key": "k", "key": "uuid", "n": 1})
    assert event == {"event": "x", "access_token": "***", "account_key": "***", "key": "uuid", "n": 1}
