"""Which URIs are models', and what is refused before anything is touched."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farframe.protocol.errors import FarframeError, Result
from farframe.storage.uri import BuiltinUri, FileUri, UploadUri, WebUri, parse_model_uri


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("builtin://Engine", BuiltinUri("Engine")),
        ("BUILTIN://Engine", BuiltinUri("Engine")),
        ("upload://abc-1_2/model.glb", UploadUri("abc-1_2", "model.glb")),
        ("upload://a/sub%20folder/m%C3%BC.gltf", UploadUri("a", "sub folder/mü.gltf")),
        ("file:///models/a%3F%23.glb", FileUri("/models/a?#.glb")),
        ("file://localhost/models/a.glb", FileUri("/models/a.glb")),
    ],
)
def test_local_schemes(uri, expected):
    assert parse_model_uri(uri) == expected


def test_web_urls_hide_their_query():
    parsed = parse_model_uri("https://example.org/a/b.glb?sv=1&sig=SECRET#part")
    assert isinstance(parsed, WebUri)
    assert parsed.shown == "https://example.org/a/b.glb"
    assert "SECRET" not in repr(parsed)
    assert str(parsed.url) == "https://example.org/a/b.glb?sv=1&sig=SECRET"


def test_a_signature_is_kept_byte_by_byte():
    parsed = parse_model_uri("https://h.example/c/b.glb?sig=a%2Bb%2Fc%3D&se=2026-01-01T00%3A00%3A00Z")
    assert parsed.url.query == b"sig=a%2Bb%2Fc%3D&se=2026-01-01T00%3A00%3A00Z"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "model.glb",
        "/etc/passwd",
        "ftp://example.org/a.glb",
        "javascript://x",
        "builtin://",
        "builtin://Engine/x",
        "upload://",
        "upload://abc",
        "upload://abc/",
        "upload:///a.glb",
        "upload://../a.glb",
        "upload://a%2Fb/a.glb",
        "upload://abc/../a.glb",
        "upload://abc/%2e%2e/a.glb",
        "upload://abc/a//b.glb",
        "upload://abc/a\\b.glb",
        "upload://abc/a%00.glb",
        "upload://abc/a%FF.glb",
        "upload://abc/a.glb?x=1",
        "upload://" + "a" * 129 + "/a.glb",
        "file://host/a.glb",
        "file:///",
        "https://",
        "https:///a.glb",
        "https://user:password@example.org/a.glb",
        "https://user@example.org/a.glb",
        "https://example.org:99999/a.glb",
        "https://example.org:0/a.glb",
        "https://exam ple.org/a.glb",
        "https://example.org/a\r\nX-Header: 1",
        "https://[::1/a.glb",
        "https://example.org/" + "a" * 9_000,
    ],
)
def test_refused(uri):
    with pytest.raises(FarframeError) as caught:
        parse_model_uri(uri)
    assert caught.value.result is Result.INVALID_URI
    assert caught.value.next_step
    if len(uri) > 12:
        assert uri not in str(caught.value)


@settings(deadline=None, database=None, derandomize=True)
@given(st.sampled_from(["", "https://", "http://", "file://", "upload://a/", "builtin://"]), st.text(max_size=60))
def test_any_text(scheme, text):
    try:
        parsed = parse_model_uri(scheme + text)
    except FarframeError as error:
        assert error.result is Result.INVALID_URI
    else:
        if isinstance(parsed, UploadUri):
            assert ".." not in parsed.path.split("/")
