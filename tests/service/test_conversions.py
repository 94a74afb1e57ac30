"""The contract's conversions, line by line, with raw requests; the queue that does the work; secrets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from farframe.auth.tokens import Role
from farframe.service.conversions import NO_WORKERS_MESSAGE, ConversionBook, ConversionJob
from farframe.wire.conversions import output_asset_uri
from tests.service.test_contract import cached, check_common

SECRET_IN, SECRET_OUT = "sv=1&sig=input-secret", "sv=1&sig=output-secret"


class HeldQueue:
    """Takes jobs and leaves them to the test."""

    def __init__(self) -> None:
        self.jobs: list[ConversionJob] = []
        self.book: Any = None

    async def submit(self, job: ConversionJob, book: ConversionBook) -> None:
        self.jobs.append(job)
        self.book = book

    async def tend(self, now: int, book: ConversionBook) -> int | None:
        return None

    async def stop(self) -> None:
        pass


def body(**changes: Any) -> dict[str, Any]:
    source = {
        "storageContainerUri": "https://acct.blob.example.net/in",
        "storageContainerReadListSas": f"?{SECRET_IN}",
        "blobPrefix": "Input",
        "relativeInputAssetPath": "box.fbx",
    }
    target = {
        "storageContainerUri": "https://acct.blob.example.net/out",
        "storageContainerWriteSas": SECRET_OUT,
        "blobPrefix": "run-1",
        "outputAssetFilename": "box.arrAsset",
    }
    for name, value in changes.items():
        place, member = (source, name[3:]) if name.startswith("in_") else (target, name[4:])
        if value is ...:
            del place[member]
        else:
            place[member] = value
    return {"settings": {"inputLocation": source, "outputLocation": target}}


NO_SAS = {"in_storageContainerReadListSas": "", "out_storageContainerWriteSas": None}


async def put(world: Any, name: str = "c", content: dict[str, Any] | None = None, **arguments: Any) -> Any:
    arguments.setdefault("headers", world.headers)
    return await world.http.put(world.path(f"/{name}", kind="conversions"), json=content or body(), **arguments)


async def get(world: Any, name: str = "", **arguments: Any) -> Any:
    arguments.setdefault("headers", world.headers)
    return await world.http.get(world.path(f"/{name}" if name else "", kind="conversions"), **arguments)


@pytest.fixture
async def held(make_world: Any) -> Any:
    queue = HeldQueue()
    async with make_world(conversion_queue=queue) as world:
        world.queue = queue
        yield world


async def test_created_as_recorded(held: Any) -> None:
    response = await put(held)
    assert response.status_code == 201
    check_common(response, data_plane=True)
    assert cached(response)
    value = response.json()
    assert list(value) == ["id", "creationTime", "settings", "error", "status"]
    assert value["creationTime"].endswith("Z")
    assert value["error"] is None
    assert value["status"] == "NotStarted"
    assert value["settings"] == {
        "inputLocation": {
            "storageContainerUri": "https://acct.blob.example.net/in",
            "blobPrefix": "Input/",
            "relativeInputAssetPath": "box.fbx",
        },
        "outputLocation": {
            "storageContainerUri": "https://acct.blob.example.net/out",
            "blobPrefix": "run-1/",
            "outputAssetFilename": "box.arrAsset",
        },
    }


async def test_states_as_recorded(held: Any) -> None:
    await put(held, "good")
    await put(held, "bad")
    good, bad = held.queue.jobs
    assert await held.queue.book.started(good.key)
    running = await get(held, "good")
    assert not cached(running)
    assert (running.json()["status"], running.json()["error"]) == ("Running", None)
    assert "output" not in running.json()
    assert await held.queue.book.succeeded(good.key, output_asset_uri(good.request.settings), 17)
    done = (await get(held, "good")).json()
    assert list(done) == ["id", "creationTime", "settings", "output", "error", "status"]
    assert done["output"] == {"outputAssetUri": "https://acct.blob.example.net/out/run-1/box.arrAsset"}
    assert (done["status"], done["error"]) == ("Succeeded", None)
    assert await held.queue.book.failed(bad.key, "InputContainerAccessDenied", "Access was denied.")
    failed = (await get(held, "bad")).json()
    assert list(failed) == ["id", "creationTime", "settings", "error", "status"]
    assert failed["error"] == {"code": "InputContainerAccessDenied", "message": "Access was denied."}
    # What has ended stays as it is.
    assert not await held.queue.book.failed(good.key, "X", "x")
    assert not await held.queue.book.started(bad.key)
    assert not await held.queue.book.succeeded(bad.key, "x", 1)


async def test_signatures_go_to_the_queue_and_nowhere_else(held: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [await put(held), await put(held), await get(held, "c"), await get(held)]
    logged = "".join(capsys.readouterr())
    assert "conversion.created" in logged
    (job,) = held.queue.jobs
    assert (job.request.input_sas, job.request.output_sas) == (SECRET_IN, SECRET_OUT)
    everything = [answer.text for answer in answers] + [logged, repr(job), repr(job.request)]
    everything += [file.read_bytes().decode("latin-1") for file in held.folder.glob("farframe.db*")]
    for text in everything:
        assert "secret" not in text
        assert "Sas" not in text


async def test_retries_sign_anew_and_compare_in_normal_form(held: Any) -> None:
    assert (await put(held)).status_code == 201
    for same in (
        body(in_storageContainerReadListSas="sv=2&sig=other", out_storageContainerWriteSas="?sv=2&sig=other"),
        body(in_blobPrefix="Input/", out_blobPrefix="run-1/"),
        body(out_outputAssetFilename=...),
        body(out_outputAssetFilename=None),
        body(out_outputAssetFilename=""),
    ):
        answer = await put(held, content=same)
        assert answer.status_code == 200
        assert answer.json()["id"] == "c"
    for other in (
        body(in_relativeInputAssetPath="other.fbx"),
        body(in_blobPrefix=None),
        body(out_blobPrefix=""),
        body(out_outputAssetFilename="other.arrAsset"),
        body(in_storageContainerUri="https://acct.blob.example.net/elsewhere"),
    ):
        answer = await put(held, content=other)
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "Conflict"
    assert len(held.queue.jobs) == 1
    assert (await put(held, "C")).status_code == 201


async def test_optional_members_may_be_absent_null_or_empty(held: Any) -> None:
    for index, nothing in enumerate((..., None, "")):
        answer = await put(
            held,
            f"n{index}",
            body(in_blobPrefix=nothing, out_blobPrefix=nothing, out_outputAssetFilename=nothing),
        )
        assert answer.status_code == 201
        settings = answer.json()["settings"]
        assert "blobPrefix" not in settings["inputLocation"]
        assert "blobPrefix" not in settings["outputLocation"]
        assert settings["outputLocation"]["outputAssetFilename"] == "box.arrAsset"
    named = await put(held, "deep", body(in_relativeInputAssetPath="a/b/chair.v2.gltf", out_outputAssetFilename=None))
    assert named.json()["settings"]["outputLocation"]["outputAssetFilename"] == "chair.v2.arrAsset"


async def test_without_a_signature_storage_must_be_linked(make_world: Any) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    linked = ("linked", f"{other}/theirs", "store.example.net", "own.example.net:9000")
    async with make_world(linked_storage=linked, conversion_queue=HeldQueue()) as world:
        for name, content in {
            "both": body(**NO_SAS),
            "input": body(in_storageContainerReadListSas=None),
            "output": body(out_storageContainerWriteSas=...),
            "theirs": body(
                **NO_SAS,
                in_storageContainerUri="https://theirs.blob.core.windows.net/a",
                out_storageContainerUri="https://theirs.blob.core.windows.net/b",
            ),
            # Hosts that only look like a linked one.
            **{
                f"like{number}": body(
                    **NO_SAS,
                    in_storageContainerUri=f"{host}/a",
                    out_storageContainerUri="https://linked.blob.core.windows.net/b",
                )
                for number, host in enumerate(
                    (
                        "https://linked.evil.example",
                        "https://linked.blob.core.windows.net.evil.example",
                        "https://linked.blob.core.windows.net:9000",
                        "https://linked",
                        "https://a.store.example.net",
                        "https://store.example.net.evil.example",
                        "https://own.example.net",
                    )
                )
            },
        }.items():
            refused = await put(world, name, content)
            assert refused.status_code == 403
            check_common(refused, data_plane=True)
            error = refused.json()["error"]
            assert error["code"] == "DelegatedResourceAccessError"
            assert "storage" in error["message"]
            assert "permissions" in error["message"]
            assert (await get(world, name)).status_code == 404
        assert (await get(world)).json() == {"conversions": [], "@nextLink": None}
        ours = body(
            **NO_SAS,
            in_storageContainerUri="https://Linked.Blob.core.windows.net/a",
            out_storageContainerUri="https://linked.blob.core.windows.net:443/b",
        )
        assert (await put(world, "ours", ours)).status_code == 201
        own = body(
            **NO_SAS,
            in_storageContainerUri="https://store.example.net/a",
            out_storageContainerUri="https://own.example.net:9000/b",
        )
        assert (await put(world, "own", own)).status_code == 201


BAD_BODIES = [
    (b"", "JSON"),
    (b"{", "JSON"),
    (b"[]", "object"),
    (b"{}", "settings"),
    (b'{"settings":null}', "settings"),
    (b'{"settings":{}}', "inputLocation"),
    (b'{"settings":{"inputLocation":{},"outputLocation":{}}}', "relativeInputAssetPath"),
    (b"[" * 60_000, "JSON"),
]


@pytest.mark.parametrize(("content", "word"), BAD_BODIES)
async def test_broken_bodies(held: Any, content: bytes, word: str) -> None:
    answer = await held.http.put(held.path("/c", kind="conversions"), content=content, headers=held.headers)
    assert answer.status_code == 400
    check_common(answer, data_plane=True)
    error = answer.json()["error"]
    assert error["code"] == "BadRequest"
    assert word in error["message"]
    assert held.queue.jobs == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"in_storageContainerUri": ...}, "storageContainerUri"),
        ({"in_storageContainerUri": None}, "storageContainerUri"),
        ({"out_storageContainerUri": ""}, "storageContainerUri"),
        ({"out_storageContainerUri": 7}, "string"),
        ({"in_storageContainerUri": "no uri at all"}, "storageContainerUri"),
        ({"in_storageContainerUri": "https://acct.blob.example.net"}, "container"),
        ({"in_storageContainerUri": "https://acct.blob.example.net/a/../b"}, "container"),
        ({"in_storageContainerUri": "https://acct.blob.example.net/a%2f..%2fb"}, "container"),
        ({"in_storageContainerUri": "https://[::1/in"}, "container"),
        ({"in_storageContainerUri": "https://h:port/in"}, "container"),
        ({"in_storageContainerUri": "file://host/etc"}, "container"),
        ({"in_storageContainerUri": "file:///srv/../etc"}, "container"),
        ({"in_storageContainerUri": "s3://bucket/folder"}, "container"),
        ({"in_storageContainerUri": "ftp://host/in"}, "container"),
        ({"in_storageContainerUri": "https://user:word@acct.example.net/in"}, "user"),
        ({"in_storageContainerUri": f"https://acct.blob.example.net/in?{SECRET_IN}"}, "own member"),
        ({"in_storageContainerUri": "https://acct.example.net/" + "x" * 3000}, "longer"),
        ({"in_relativeInputAssetPath": ...}, "relativeInputAssetPath"),
        ({"in_relativeInputAssetPath": ""}, "relativeInputAssetPath"),
        ({"in_relativeInputAssetPath": "../../secrets.fbx"}, "'..'"),
        ({"in_relativeInputAssetPath": "a\\..\\b.fbx"}, "'..'"),
        ({"in_relativeInputAssetPath": "a\x00b"}, "control"),
        ({"in_relativeInputAssetPath": "x" * 2000}, "longer"),
        ({"in_blobPrefix": "../other"}, "'..'"),
        ({"in_blobPrefix": 1}, "string"),
        ({"in_blobPrefix": "p" * 1020}, "longer"),
        ({"out_outputAssetFilename": "box.glb"}, ".arrAsset"),
        ({"out_outputAssetFilename": ".arrAsset"}, ".arrAsset"),
        ({"out_outputAssetFilename": "a/box.arrAsset"}, "folders"),
        ({"out_outputAssetFilename": ["box.arrAsset"]}, "string"),
        ({"in_storageContainerReadListSas": {"a": 1}}, "string"),
        ({"in_storageContainerReadListSas": "s" * 9000}, "longer"),
    ],
)
async def test_bad_settings(held: Any, changes: dict[str, Any], word: str) -> None:
    answer = await put(held, content=body(**changes))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "BadRequest"
    assert word in error["message"]
    assert "secret" not in answer.text
    assert held.queue.jobs == []


async def test_what_storage_refuses_is_no_error_of_the_request(held: Any) -> None:
    missing = body(in_relativeInputAssetPath="not/there.fbx", in_storageContainerReadListSas="nonsense \u00e9")
    assert (await put(held, content=missing)).status_code == 201
    extra = body()
    extra["settings"]["unknown"] = extra["more"] = 1
    assert (await put(held, "extra", extra)).status_code == 201


async def test_ids_and_versions(held: Any) -> None:
    for name in ("a%20b%2Fc", "a.b", "x" * 257):
        for answer in (await put(held, name), await get(held, name)):
            assert answer.status_code == 400
            assert "conversion id" in answer.json()["error"]["message"]
    assert (await put(held, "x" * 256)).status_code == 201
    missing = await get(held, "nobody")
    assert (missing.status_code, missing.content) == (404, b"")
    for path, code in (
        (held.path(kind="conversions", version=None), "ApiVersionUnspecified"),
        (held.path(kind="conversions", version="2020-01-01"), "UnsupportedApiVersion"),
    ):
        refused = await held.http.get(path, headers=held.headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
    upper = held.path(kind="CONVERSIONS").replace(held.account, held.account.upper())
    assert (await held.http.get(upper, headers=held.headers)).status_code == 200


async def test_who_may_convert(held: Any) -> None:
    # Conversions are for administrators: roles, as the hosted service had them.
    await put(held)
    for headers, status in (
        ({}, 401),
        ({"Authorization": f"Bearer {held.account}:{held.key}"}, 401),
        (held.bearer(role=Role.CLIENT), 403),
        (held.bearer(session="s"), 403),
        (held.bearer(account="00000000-0000-4000-8000-000000000000"), 403),
    ):
        for answer in (
            await put(held, "other", headers=headers),
            await get(held, "c", headers=headers),
            await get(held, headers=headers),
        ):
            assert (answer.status_code, answer.content) == (status, b"")
            check_common(answer, data_plane=True)


async def test_pages(held: Any) -> None:
    for index in range(55):
        assert (await put(held, f"c{index:02d}")).status_code == 201
        # Lists hold every state, and the quota counts those that have not ended.
        assert await held.queue.book.failed(held.queue.jobs[-1].key, "X", "x")
        held.clock.advance(seconds=1)
    first = await get(held)
    check_common(first, data_plane=True)
    assert cached(first)
    assert list(first.json()) == ["conversions", "@nextLink"]
    assert [value["id"] for value in first.json()["conversions"]] == [f"c{index:02d}" for index in range(50)]
    link = first.json()["@nextLink"]
    assert link.startswith(f"{held.http_url}/accounts/{held.account}/conversions?api-version=2021-01-01&skiptoken=1-")
    second = await held.http.get(link, headers=held.headers)
    assert [value["id"] for value in second.json()["conversions"]] == [f"c{index}" for index in range(50, 55)]
    assert second.json()["@nextLink"] is None
    assert '"@nextLink":null' in second.text
    bad = await held.http.get(f"{held.path(kind='conversions')}&skiptoken=1:zz", headers=held.headers)
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "BadRequest")


async def test_as_the_scripts_send_it(held: Any) -> None:
    headers = {**held.headers, "Content-Type": "application/json"}
    content = json.dumps(body(in_blobPrefix="", out_blobPrefix=None, out_outputAssetFilename=""), indent=2).encode()
    path = held.path("/ps", version="2021-01-01-preview", kind="conversions")
    created = await held.http.put(path, content=content, headers=headers)
    assert created.status_code == 201
    assert (await held.http.get(path, headers=headers)).json()["status"] == "NotStarted"
    listed = await held.http.get(held.path(version="2021-01-01-preview", kind="conversions"), headers=headers)
    assert [value["id"] for value in listed.json()["conversions"]] == ["ps"]


async def test_without_workers_a_conversion_fails_and_says_so(world: Any) -> None:
    assert (await put(world)).json()["status"] == "NotStarted"

    async def failed() -> bool:
        return bool((await get(world, "c")).json()["status"] == "Failed")

    await world.until(failed)
    value = (await get(world, "c")).json()
    assert value["error"] == {"code": "ConversionProcessFailed", "message": NO_WORKERS_MESSAGE}
    assert (await put(world)).status_code == 200


async def test_what_a_dead_service_had_taken_is_settled_at_the_start(make_world: Any) -> None:
    async with make_world(conversion_queue=HeldQueue()) as world:
        await put(world)
    async with make_world() as world:

        async def failed() -> bool:
            return bool((await get(world, "c")).json()["status"] == "Failed")

        await world.until(failed)


async def test_side_by_side_requests_make_one_conversion(held: Any) -> None:
    answers = await asyncio.gather(*(put(held) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len(held.queue.jobs) == 1


async def test_a_conversion_is_metered_from_its_start_to_its_end(held: Any) -> None:
    await put(held)
    (job,) = held.queue.jobs
    held.clock.advance(minutes=1)
    await held.queue.book.started(job.key)
    held.clock.advance(minutes=2)
    await held.queue.book.succeeded(job.key, "https://x/y", 4711)
    records = [row async for batch in held.store.usage.records(held.account, 0, 2**62) for row in batch]
    assert [(row.kind, row.source_key, row.bytes, row.ended_at - row.started_at) for row in records] == [
        ("conversion", job.key, 4711, 120_000_000)
    ]


def test_the_answer_never_holds_a_signature_member() -> None:
    from farframe.wire.conversions import parse_conversion

    request = parse_conversion(msgspec.json.encode(body()))
    assert b"secret" not in msgspec.json.encode(request.settings)
