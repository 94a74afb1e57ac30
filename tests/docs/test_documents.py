"""The documents say what is so: links, commands, tables. What they show in Python runs in tests/end_to_end."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cyclopts import App

from farframe.cli._app import app
from farframe.protocol import animations, appearance, messages, performance, queries, records, scene
from farframe.protocol.errors import Result
from farframe.server.ledger import WIRE_STAGES
from farframe.service.description import describe

ROOT = Path(__file__).resolve().parents[2]
WEB = [ROOT / "web" / "README.md", *sorted((ROOT / "web" / "packages").glob("*/README.md"))]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), *WEB]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
TICKED = re.compile(r"`([^`]+)`")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(text: str, *languages: str) -> list[str]:
    """What stands between fences of these languages."""
    return [body for name, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S) if name in languages]


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def anchors(text: str) -> set[str]:
    """The fragments of a document's headings, as code forges make them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


# Links and paths ------------------------------------------------------------------------------------------------------


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _, fragment = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (fragment and fragment not in anchors(file.read_text())):
            dead.append(target)
    assert not dead


@each_document
def test_files_that_are_named_exist(document: Path) -> None:
    """A name in ticks that begins with a folder of the tree is in the tree; with a slash at its end it may be made."""
    named = re.compile(r"(?:src|tests|docs|examples|tools|benchmarks|packages|web)/[\w./-]*\w")
    found = [name for name in TICKED.findall(document.read_text()) if named.fullmatch(name)]
    missing = [name for name in found if not ((ROOT / name).exists() or (document.parent / name).exists())]
    assert not missing


# Commands -------------------------------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[list[str]]:
    """The farframe commands in shell blocks and in indented lines; forms with [brackets] are descriptions."""
    lines = [line for block in blocks(text, "sh", "console") for line in block.splitlines()]
    lines += [line for line in text.splitlines() if line.startswith("    farframe ")]
    for line in lines:
        command = line.partition(" > ")[0]  # where the shell sends the output is no word of the command's
        words = shlex.split(re.split(r" {3,}\S", command.strip().removeprefix("$ "))[0], comments=True)
        if words[:1] == ["farframe"] and not any("[" in word for word in words):
            yield [{"MINUTES": "30"}.get(word, word) for word in words[1:]]


def parses(words: list[str]) -> None:
    """Raises CycloptsError for a command, an option or a value that does not exist."""
    launch, bound, _ = app.meta.parse_args(words, print_error=False, exit_on_error=False)
    if launch is app.meta.default_command:  # else --help or --version
        app.parse_args(bound.args, print_error=False, exit_on_error=False)


def subcommands(parent: App, *names: str) -> Iterator[tuple[tuple[str, ...], App]]:
    yield names, parent
    for name in parent:
        if not name.startswith("-"):
            yield from subcommands(parent[name], *names, name)


@each_document
def test_commands_in_the_documents_are_written_rightly(document: Path) -> None:
    for words in command_lines(document.read_text()):
        parses(words)


def test_examples_of_the_commands_own_help_are_written_rightly() -> None:
    seen = 0
    for _, command in subcommands(app):
        text = inspect.getdoc(command.default_command) if command.default_command else command.help
        for words in command_lines(text or ""):
            parses(words)
            seen += 1
    assert seen >= 15


def test_every_command_and_option_is_documented() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text()
    for names, command in subcommands(app):
        if names and command.default_command is not None and names != ("version",):
            assert re.search(rf"farframe {' '.join(names)}\b", text), names
            for argument in command.assemble_argument_collection():
                name = argument.names[0]
                negative = f"--no-{name.removeprefix('--')}"
                assert not name.startswith("--") or name in text or negative in text, (names, name)
    wrong = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {
        name
        for _, command in [*subcommands(app), ((), app.meta)]
        if command.default_command
        for name in options(command)
    }
    assert wrong <= {"--help"}


def options(command: App) -> Iterator[str]:
    for argument in command.assemble_argument_collection():
        for name in argument.names:
            yield name
            yield f"--no-{name.removeprefix('--')}"


@each_document
def test_commands_of_dev_exist(document: Path) -> None:
    known = set(re.findall(r"^  ([a-z]+)\)", (ROOT / "dev").read_text(), re.M)) | {"help"}
    text = document.read_text()
    assert set(re.findall(r"\./dev ([a-z]+)", "\n".join([*blocks(text, "sh"), *TICKED.findall(text)]))) <= known


# Python and TypeScript ------------------------------------------------------------------------------------------------


@each_document
def test_python_compiles(document: Path) -> None:
    for block in blocks(document.read_text(), "python"):
        compile(block, str(document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_what_the_typescript_examples_import_is_exported() -> None:
    exported = (ROOT / "web/packages/client/src/index.ts").read_text()
    names = []
    for document in WEB:
        for block in blocks(document.read_text(), "ts"):
            for group in re.findall(r"import \{([^}]+)\} from \"@farframe/client\"", block):
                names += [name.strip().removeprefix("type ") for name in group.split(",")]
    assert names
    assert [name for name in names if not re.search(rf"\b{name}\b", exported)] == []


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_are_mentioned_and_can_be_imported(example: Path) -> None:
    told = [(ROOT / "docs" / name).read_text() for name in ("python-client.md", "gallery.md")]
    assert any(f"examples/{example.name}" in text for text in told)
    code = f"import runpy; runpy.run_path({str(example)!r}, run_name='example')"
    subprocess.run([sys.executable, "-W", "error::SyntaxWarning", "-c", code], check=True, timeout=60)


# The device protocol --------------------------------------------------------------------------------------------------


def section(title: str) -> str:
    """The text below a heading of docs/protocol.md, to the next heading."""
    match = re.search(rf"^#+ {re.escape(title)}.*?$(.*?)(?=^#|\Z)", PROTOCOL, re.M | re.S)
    assert match, title
    return match[1]


def rows(text: str, first_heading: str) -> list[list[str]]:
    """The cells of the table whose first heading is that."""
    head, *lines = re.search(rf"^\| {first_heading} \|.*?(?=\n\n|\Z)", text, re.M | re.S)[0].splitlines()  # type: ignore[index]
    del head, lines[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def first_names(text: str, first_heading: str) -> list[str]:
    return [name for row in rows(text, first_heading) for name in TICKED.findall(row[0])]


def wire_names(kind: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize(
    ("title", "heading", "kind"),
    [
        ("`connection.open`", "parameter", messages.OpenParams),
        ("`connection.open`", "result", messages.OpenResult),
        ("`video.configure`", "parameter", messages.VideoParams),
        ("`scene.loadModel`", "parameter", messages.LoadModelParams),
        ("`scene.loadModel`", "result", messages.LoadModelResult),
        ("`scene.configure`", "parameter", messages.SceneParams),
        ("`scene.apply`", "parameter", scene.ApplyParams),
        ("`scene.apply`", "result", scene.ApplyResult),
        ("`scene.castRay`", "parameter", scene.CastRayParams),
        ("Errors", "member", messages.ErrorData),
    ],
)
def test_tables_of_messages_have_exactly_their_members(title: str, heading: str, kind: type[msgspec.Struct]) -> None:
    assert sorted(first_names(section(title), heading)) == sorted(wire_names(kind))


@pytest.mark.parametrize(
    ("title", "kinds", "others"),
    [
        ("`connection.ping`", (messages.PingParams, messages.PingResult), set()),
        ("`statistics.get`", (messages.StatisticsResult, messages.StageStatistics), set(WIRE_STAGES.values())),
        (
            "`scene.describe`",
            (messages.DescribeParams, messages.SceneDescription),
            {"scene.loadModel", "scene.configure"},
        ),
        ("`scene.unloadModel`", (messages.UnloadModelParams,), {"scene.unloadModel", "scene.clear"}),
    ],
)
def test_messages_told_in_words_have_exactly_their_members(
    title: str, kinds: tuple[type[msgspec.Struct], ...], others: set[str]
) -> None:
    told = set(TICKED.findall(section(title))) - others
    assert told == {name for kind in kinds for name in wire_names(kind)}


def test_commands_have_exactly_their_members() -> None:
    tables = rows(section("`scene.apply`"), "`op`") + rows(section("Commands on what it looks like"), "`op`")
    told = {TICKED.findall(row[0])[0]: TICKED.findall(row[1]) for row in tables}
    known = {kind.__struct_config__.tag: wire_names(kind) for kind in scene.Command.__args__}
    assert {op: sorted(names) for op, names in told.items()} == {op: sorted(names) for op, names in known.items()}


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("Values of a material", appearance.MaterialValues),
        ("Values of a light", appearance.LightValues),
        ("Values of a cut plane", appearance.CutPlaneValues),
        ("Values of effects", appearance.EffectsValues),
    ],
)
def test_values_have_exactly_their_members_and_defaults(title: str, kind: type[msgspec.Struct]) -> None:
    beginning = msgspec.to_builtins(kind())
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    told: list[str] = []
    for row in rows(section(title), "member"):
        names = TICKED.findall(row[0])
        told += names
        if row[1] == "object":
            within = fields[names[0]].default_factory
            assert set(TICKED.findall(row[3])) - {"builtin://Studio", '"builtin://Studio"'} == set(wire_names(within))
            continue
        for name, default in zip(names, row[2].split("; "), strict=True):
            value = beginning.get(name, fields[name].default)
            text = default.strip("`")
            assert (json.loads(f"[{text}]") if isinstance(value, tuple) else json.loads(text)) == (
                list(value) if isinstance(value, tuple) else value
            ), name
    assert sorted(told) == sorted(fields)


def test_loading_a_texture_is_told_with_exactly_its_members() -> None:
    text = section("`scene.loadTexture`")
    assert first_names(text, "parameter") == wire_names(appearance.LoadTextureParams)
    for name in wire_names(appearance.TextureInfo):
        assert f"`{name}`" in text, name


@pytest.mark.parametrize(
    ("title", "kinds", "others"),
    [
        ("`scene.getEntities`", (scene.EntitiesParams, scene.EntitiesResult), set()),
        ("`scene.getBounds`", (scene.BoundsParams, scene.BoundsResult), {"world", "local", "scene.loadModel"}),
        ("`scene.getMetadata`", (scene.MetadataParams, scene.MetadataResult), set()),
    ],
)
def test_questions_about_entities_have_exactly_their_members(
    title: str, kinds: tuple[type[msgspec.Struct], ...], others: set[str]
) -> None:
    told = set(TICKED.findall(section(title))) - others
    assert told == {name for kind in kinds for name in wire_names(kind)}


def test_members_within_members_are_told() -> None:
    def told(title: str, heading: str, name: str) -> set[str]:
        (row,) = [row for row in rows(section(title), heading) if row[0] == f"`{name}`"]
        return set(TICKED.findall(row[2]))

    assert told("`connection.open`", "result", "server") - {"cpu", "gpu"} == set(wire_names(messages.ServerInfo))
    assert told("`scene.loadModel`", "result", "bounds") == set(wire_names(messages.Bounds))
    notifications = {TICKED.findall(row[0])[0]: row for row in rows(section("Notifications"), "method")}
    assert set(notifications) == {
        "scene.loadProgress", "session.ending", "driver.joined", "driver.left", "video.changed", "$/cancelRequest"
    }  # fmt: skip
    stages = {"download", "read", "simplify", "upload"}
    for method, kind, values in (
        ("scene.loadProgress", messages.LoadProgressParams, stages),
        ("session.ending", messages.EndingParams, set()),
        ("driver.joined", messages.DriverJoinedParams, {"video.configure"}),
        ("driver.left", messages.DriverLeftParams, set()),
        ("$/cancelRequest", messages.CancelParams, {"Cancelled"}),
    ):
        assert set(TICKED.findall(notifications[method][2])) - values == set(wire_names(kind)), method


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("`connection.open`", messages.OpenParams),
        ("`scene.loadModel`", messages.LoadModelParams),
        ("`scene.apply`", scene.ApplyParams),
        ("`scene.castRay`", scene.CastRayParams),
        ("`scene.findOverlaps`", queries.FindOverlapsParams),
    ],
)
def test_defaults_are_the_codes(title: str, kind: type[msgspec.Struct]) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for row in rows(section(title), "parameter"):
        for name, default in zip(TICKED.findall(row[0]), row[2].split(", "), strict=True):
            field = fields[name]
            if default == "required":
                assert field.required, name
            else:
                assert msgspec.json.decode(default.strip("`")) == field.default, name


def test_every_method_has_its_section_and_no_other() -> None:
    told = "".join(str(module.__doc__) for module in (messages, scene, appearance, queries, performance, animations))
    named = set(re.findall(r"^    ([a-z]+\.[a-zA-Z]+|\$/\w+) ", told, re.M))
    assert len(named) >= 16
    assert (
        set(re.findall(r"`([a-z]+\.[a-z][a-zA-Z]+|\$/\w+)`", PROTOCOL))
        - {"error.code", "error.data", "farframe.client"}
        == named
    )


def test_results_are_exactly_those_of_the_code() -> None:
    assert first_names(section("Errors"), "result") == [result.value for result in Result]
    for row in rows(section("Errors"), "result"):
        assert re.search(rf"{row[0].strip('`')} .*{re.escape(row[1])}", sys.modules[Result.__module__].__doc__ or "")
    refusals = {name for row in rows(section("Handshake"), "status") for name in TICKED.findall(row[1])}
    assert refusals <= {result.value for result in Result}


@pytest.mark.parametrize(
    ("table", "size"),
    [
        (lambda: rows(section("Channel `pose`"), "offset"), 16),
        (lambda: rows(section("Channel `pose`").split("A view:")[1], "offset"), 64),
        (lambda: rows(section("Channel `frames`"), "offset"), 80),
        (lambda: rows(section("Channel `pose`: transforms"), "offset")[:-4], 16),
    ],
    ids=["pose", "view", "frame", "transforms"],
)
def test_offsets_of_records_add_up(table: object, size: int) -> None:
    offset = 0
    for start, kind, *_ in table():  # type: ignore[operator]
        assert int(start) == offset
        if kind != "views":
            name, _, count = kind.partition(" × ")
            offset += int(name[1:]) // 8 * int(count or 1)
    assert offset == size
    assert size in {item.size for item in vars(records).values() if isinstance(item, struct.Struct)}


# REST -----------------------------------------------------------------------------------------------------------------


def test_every_route_is_told_and_no_other() -> None:
    text = (ROOT / "docs" / "rest.md").read_text()
    told = set(re.findall(r"\b(GET|PUT|POST|PATCH|DELETE) (/[^\s`?]*)", text))
    left = set(told)
    for path, operations in describe()["paths"].items():
        shape = re.sub(r"\\{path\\}", ".+", re.escape(path))
        shape = re.sub(r"\\{\w+\\}", r"[^/]+", shape)
        for method in operations.keys() - {"parameters"}:
            matching = {item for item in told if item[0] == method.upper() and re.fullmatch(shape, item[1], re.I)}
            assert matching, f"docs/rest.md lacks {method.upper()} {path}"
            left -= matching
    assert left <= {("GET", "/openapi.json")}
