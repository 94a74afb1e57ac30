"""JSON-RPC messages: what is written can be read, what is hostile gets a typed error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.protocol import messages
from farframe.protocol.errors import RETRYABLE, FarframeError, Result


def test_a_request_reads_as_documented() -> None:
    text = messages.encode_request(7, "scene.loadModel", messages.LoadModelParams(uri="builtin://Engine"))
    assert json.loads(text) == {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "scene.loadModel",
        "params": {"uri": "builtin://Engine"},
    }
    message = messages.decode(text)
    assert message.id == 7
    assert messages.convert_params(message.params, messages.LoadModelParams).uri == "builtin://Engine"


def test_times_keep_their_long_names() -> None:
    text = messages.encode_result(1, messages.PingResult(client_time_us=1, server_time_us=2))
    assert json.loads(text)["result"] == {"clientTimeMicroseconds": 1, "serverTimeMicroseconds": 2}


@pytest.mark.parametrize("result", list(Result))
def test_errors_come_back_as_they_were(result: Result) -> None:
    sent = FarframeError(result, "It went wrong.", next_step="Do that.")
    message = messages.decode(messages.encode_error(3, sent))
    assert message.error is not None
    received = messages.to_error(message.error)
    assert (received.result, received.message, received.next_step) == (result, "It went wrong.", "Do that.")
    assert received.retryable is (result in RETRYABLE)


def test_an_unknown_result_of_a_newer_server_is_a_plain_failure() -> None:
    error = messages.RpcError(code=-32000, message="?", data=messages.ErrorData(result="SomethingNew"))
    assert messages.to_error(error).result is Result.FAIL


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_garbage_gives_a_typed_error(text: str | bytes) -> None:
    with pytest.raises(FarframeError) as caught:
        messages.decode(text)
    assert caught.value.result is Result.PROTOCOL_ERROR


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_any_parameters_give_a_message_or_invalid_param(value: object) -> None:
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "video.configure", "params": value})
    message = messages.decode(text)
    try:
        messages.convert_params(message.params, messages.VideoParams)
    except FarframeError as error:
        assert error.result is Result.INVALID_PARAM


def test_deep_and_large_messages_are_refused() -> None:
    for text in (
        "[" * 100_000,
        '{"jsonrpc":"2.0","params":' + "[" * 50_000,
        " " * (messages.MAX_CONTROL_MESSAGE_BYTES + 1),
    ):
        with pytest.raises(FarframeError):
            messages.decode(text)


def test_a_wrong_member_is_named() -> None:
    message = messages.decode('{"jsonrpc":"2.0","id":1,"method":"video.configure","params":{"width":"wide"}}')
    with pytest.raises(FarframeError, match=r"\$\.width"):
        messages.convert_params(message.params, messages.VideoParams)
