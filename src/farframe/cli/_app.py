"""The tree of commands, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from farframe import __version__
from farframe.cli import _values as values
from farframe.cli._context import CommandError, context, debugging, note

EXIT_FAILED = 1
EXIT_MISUSED = 2
EXIT_INTERRUPTED = 130

COMMON = Group("Options of every command", sort_key=100)

HELP = """Farframe renders 3D models on a server and streams the picture to wherever you are.

Start a service, then look at a model:

    farframe up
    farframe view --open
    farframe render builtin://Engine --out engine.png
"""

app = App(
    name="farframe",
    help=HELP,
    help_format="plaintext",
    version=__version__,
    version_flags=["--version"],
    # Here and below: run() tells of an interruption, like of every other end.
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False
app.meta.group_parameters = COMMON
session_app = App(
    name="session",
    help="""Lease render servers and give them back.

For example:

    farframe session create --lease-minutes 30
    farframe session list
    farframe session stop my-session
""",
    help_format="plaintext",
)
app.command(session_app)
account_app = App(
    name="account",
    help="""Manage the accounts of a service, as its operator.

For example:

    farframe account create acme
    farframe account list
    farframe account regenerate-key 3f0c6a52-7d0e-4a3b-9f0e-6d1f1a5b7c21 1
""",
    help_format="plaintext",
)
app.command(account_app)
quota_app = App(
    name="quota",
    help="""An account's limits: sessions at a time, minutes a month, conversions, stored bytes.

For example:

    farframe account quota show 3f0c6a52-7d0e-4a3b-9f0e-6d1f1a5b7c21
    farframe account quota set 3f0c6a52-7d0e-4a3b-9f0e-6d1f1a5b7c21 sessions.standard=4 session_minutes=none
""",
    help_format="plaintext",
)
account_app.command(quota_app)
config_app = App(name="config", help="Look after the service's configuration.", help_format="plaintext")
app.command(config_app)

asset_app = App(
    name="asset",
    help="""Look into converted models.

For example:

    farframe asset show engine.arrAsset
""",
    help_format="plaintext",
)
app.command(asset_app)

SizeOption = Annotated[str, Parameter(converter=values.parse_server_size, metavar="SIZE")]
RegionOption = Annotated[
    str | None,
    Parameter(help="Region whose service to use; best measures all from here and takes the nearest.", metavar="REGION"),
]
WayOption = Annotated[
    Literal["auto", "webrtc", "turn", "websocket"],
    Parameter(help="Way of the stream; by default the best that gets through."),
]
LeaseOption = Annotated[int, Parameter(converter=values.parse_lease, metavar="MINUTES")]
PortOption = Annotated[int | None, Parameter(converter=values.parse_port, metavar="PORT")]
VectorOption = Annotated[
    values.Vector | None,
    Parameter(
        converter=values.parse_vector,
        n_tokens=1,
        allow_leading_hyphen=True,
        negative="",
        accepts_keys=False,
        metavar="X,Y,Z",
    ),
]


@app.command
def up(
    *,
    data: Annotated[Path | None, Parameter(help="Folder for database, keys and uploads.")] = None,
    host: Annotated[str | None, Parameter(help="Address to listen on; 0.0.0.0 for all.")] = None,
    port: Annotated[PortOption, Parameter(help="HTTPS port.")] = None,
    http_port: Annotated[
        PortOption, Parameter(help="Port for plain HTTP, on this machine only, for browsers without the certificate.")
    ] = None,
    region: Annotated[str | None, Parameter(help="Name of the region that this service answers for.")] = None,
    servers: Annotated[
        str | None,
        Parameter(converter=values.parse_servers, help="How many render servers may run, as standard=2,premium=1."),
    ] = None,
    public_name: Annotated[str | None, Parameter(help="Name under which others reach this machine.")] = None,
    public_address: Annotated[
        list[str] | None, Parameter(negative="", help="Address that media is sent from and to; may be repeated.")
    ] = None,
    config: Annotated[Path | None, Parameter(help="TOML file with these and more settings.")] = None,
    allow_folder: Annotated[
        list[Path] | None, Parameter(negative="", help="Folder that file:// models may be read from; may be repeated.")
    ] = None,
    adapter: Annotated[Literal["auto", "gpu", "cpu"] | None, Parameter(help="Which graphics adapter draws.")] = None,
    keep_sessions: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Leave sessions running when asked to end, for the next start."
        ),
    ] = False,
    resume_grace: Annotated[
        float | None,
        Parameter(
            converter=values.parse_grace,
            metavar="SECONDS",
            help="How long the scene of a device that was lost is kept for it; 0 keeps nothing.",
        ),
    ] = None,
    log_json: Annotated[bool, Parameter(negative="", show_default=False, help="Log as JSON lines.")] = False,
) -> None:
    """Run everything on this machine: control plane, render servers and storage, until Ctrl-C.

    What is not given here comes from FARFRAME_... environment variables, else from
    the config file, else from defaults that need nothing else installed.

    For example:

        farframe up
        farframe up --host 0.0.0.0 --public-name render.example.org
        farframe up --servers standard=4,premium=1
        farframe up --allow-folder /srv/models --adapter gpu
    """
    from farframe.cli._up import exec_service

    exec_service(
        data=data,
        host=host,
        port=port,
        http_port=http_port,
        region=region,
        servers=servers,
        public_name=public_name,
        public_addresses=public_address or [],
        config=config,
        allow_folders=allow_folder or [],
        adapter=adapter,
        keep_sessions=keep_sessions,
        resume_grace=resume_grace,
        log_json=log_json,
        debug=debugging(),
    )


@session_app.command
def create(
    session: Annotated[str | None, Parameter(help="Id of your choice: letters, digits, - and _.")] = None,
    /,
    *,
    size: Annotated[SizeOption, Parameter(help="standard or premium.")] = "Standard",
    lease_minutes: Annotated[LeaseOption, Parameter(help="How long it lives from when it is ready.")] = 10,
    region: RegionOption = None,
    wait: Annotated[bool, Parameter(help="Wait until the render server is ready.")] = True,
) -> None:
    """Lease a render server and print the session.

    For example:

        farframe session create
        farframe session create demo --lease-minutes 60
        farframe session create --no-wait --json
        farframe session create --region best
    """
    from farframe.cli import _sessions

    _sessions.create(session, size, lease_minutes, region=region, wait=wait)


@session_app.command(name="list")
def list_(*, region: RegionOption = None) -> None:
    """List the sessions that are starting or ready."""
    from farframe.cli import _sessions

    _sessions.list_all(region)


@session_app.command
def show(session: Annotated[str, Parameter(help="Id of the session.")], /, *, region: RegionOption = None) -> None:
    """Show one session, also one that has ended."""
    from farframe.cli import _sessions

    _sessions.show(session, region)


@session_app.command
def extend(
    session: Annotated[str, Parameter(help="Id of the session.")],
    minutes: Annotated[LeaseOption, Parameter(help="The new length of the lease, counted from when it was ready.")],
    /,
    *,
    region: RegionOption = None,
) -> None:
    """Make a lease longer.

    For example, give a session of 10 minutes another 20.

        farframe session extend demo 30
    """
    from farframe.cli import _sessions

    _sessions.extend(session, minutes, region)


@session_app.command
def stop(session: Annotated[str, Parameter(help="Id of the session.")], /, *, region: RegionOption = None) -> None:
    """End a session; a connected device is told."""
    from farframe.cli import _sessions

    _sessions.stop(session, region)


@session_app.command
def inspect(session: Annotated[str, Parameter(help="Id of the session.")], /, *, region: RegionOption = None) -> None:
    """Print a link to the inspector: the frames of the session's render server, and its log.

    The link carries a short-lived token. The page is the render server's own, so that
    the browser must trust the service's certificate authority,
    certificates/ca.pem in its data folder.

    For example:

        farframe session inspect demo
    """
    from farframe.cli import _sessions

    _sessions.inspect(session, region)


@app.command
def render(
    model: Annotated[str, Parameter(help="URI, or a local .glb or .gltf file, or a folder with one.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Picture to write: .png, .jpg or .webp.")],
    size: Annotated[
        values.Size,
        Parameter(
            converter=values.parse_size,
            n_tokens=1,
            negative="",
            metavar="WxH",
            show_default=values.show_size,
            help="Pixels of the picture.",
        ),
    ] = (
        1280,
        720,
    ),
    eye: Annotated[VectorOption, Parameter(help="Where to look from, as 2,1,2 (metres).")] = None,
    target: Annotated[VectorOption, Parameter(help="Where to look at; the model's middle by default.")] = None,
    fov: Annotated[float, Parameter(help="Vertical field of view in degrees.")] = 45.0,
    session: Annotated[str | None, Parameter(help="Use this session and leave it running.")] = None,
    server: Annotated[
        SizeOption, Parameter(help="Size of the render server to lease: standard or premium.")
    ] = "Standard",
    timeout: Annotated[float, Parameter(help="Seconds to wait for the full-quality picture.")] = 120.0,
    way: WayOption = "auto",
) -> None:
    """Render one picture of a model: upload it, lease a server, load, save the first full-quality frame, stop.

    Without --eye the model is looked at from the front right and slightly above,
    so that it fills the picture.

    For example:

        farframe render builtin://Engine --out engine.png
        farframe render chair.glb --out chair.png --size 1920x1080
        farframe render garden/scene.gltf -o garden.png --eye 4,2,4 --fov 35
    """
    from farframe.cli import _render

    _render.render(
        model,
        out,
        size=size,
        eye=eye,
        target=target,
        fov=fov,
        session_id=session,
        server=server,
        timeout=timeout,
        way=way,
    )


@app.command
def record(
    session: Annotated[str, Parameter(help="Id of the session.")],
    out: Annotated[Path, Parameter(help="File to write; it ends in .mp4.")],
    /,
    *,
    seconds: Annotated[
        float | None, Parameter(help="How long; until Ctrl-C or the session's end if it is not given.")
    ] = None,
    drive: Annotated[
        str | None, Parameter(help="Connect as the device itself, load this model and turn around it.")
    ] = None,
    size: Annotated[
        values.Size,
        Parameter(
            converter=values.parse_size,
            n_tokens=1,
            negative="",
            metavar="WxH",
            show_default=values.show_size,
            help="Pixels of the picture, with --drive.",
        ),
    ] = (
        1280,
        720,
    ),
    degrees_per_second: Annotated[float, Parameter(help="How fast to turn, with --drive.")] = 30.0,
    overwrite: Annotated[bool, Parameter(negative="", show_default=False, help="Replace a file of that name.")] = False,
    way: WayOption = "auto",
) -> None:
    """Record a session's video to an MP4 file, as it comes: nothing is encoded again.

    Without --drive it is what the connected device sees, recorded by a spectator.

    For example:

        farframe record demo out.mp4
        farframe record demo out.mp4 --seconds 30
        farframe record demo turn.mp4 --drive builtin://Engine --seconds 12
    """
    from farframe.cli import _record

    _record.record(
        session,
        out,
        seconds=seconds,
        drive=drive,
        size=size,
        degrees_per_second=degrees_per_second,
        overwrite=overwrite,
        way=way,
    )


@app.command
def view(
    session: Annotated[str | None, Parameter(help="Id of a session; without one, a session is created.")] = None,
    /,
    *,
    open_: Annotated[
        bool, Parameter(name="--open", negative="", show_default=False, help="Open it in the browser.")
    ] = False,
    watch: Annotated[
        bool, Parameter(negative="", show_default=False, help="A link to watch what the driving device sees.")
    ] = False,
    console: Annotated[
        bool, Parameter(negative="", show_default=False, help="A link to the account's sessions and uploads instead.")
    ] = False,
    size: Annotated[SizeOption, Parameter(help="Size of a created session: standard or premium.")] = "Standard",
    lease_minutes: Annotated[LeaseOption, Parameter(help="Lease of a created session.")] = 30,
    way: WayOption = "auto",
) -> None:
    """Print a link that opens the browser viewer, once.

    For example:

        farframe view --open
        farframe view demo
        farframe view demo --watch
        farframe view --console
    """
    from farframe.cli import _view

    if console:
        if session is not None or watch:
            raise CommandError("The console is for the whole account: leave out the session and --watch.")
        _view.console(open_browser=open_)
        return
    _view.view(session, open_browser=open_, watch=watch, size=size, lease_minutes=lease_minutes, way=way)


@app.command
def convert(
    model: Annotated[str, Parameter(help="A local file, a folder with one model, or the URI of a file in storage.")],
    /,
    *,
    out: Annotated[
        str | None,
        Parameter(name=["--out", "-o"], help="Folder, or file in .arrAsset, for the result: a path, or a URI."),
    ] = None,
    id_: Annotated[str | None, Parameter(name="--id", help="Id of the service's conversion.")] = None,
    wait: Annotated[bool, Parameter(help="Wait for the service's conversion to end.")] = False,
    memory: Annotated[int, Parameter(help="Memory that a local conversion may have, in GB.")] = 8,
) -> None:
    """Convert a model into an .arrAsset, which renders at any size.

    A local file is converted on this machine, without a service, into the current
    folder or --out. A URI is given to the service, which needs a SAS in it, or the
    operator's credentials; without --out the result goes beside the model.

    For example:

        farframe convert house.fbx --out converted
        farframe convert "https://contoso.blob.core.windows.net/in/house.fbx?SAS" --wait
        farframe convert s3://designs/house/house.fbx --out s3://designs/converted --wait
    """
    from farframe.cli import _convert

    _convert.convert(model, out, conversion_id=id_, wait=wait, memory=memory * 1_000_000_000)


@asset_app.command(name="show")
def show_asset(
    file: Annotated[Path, Parameter(help="An .arrAsset file.")],
    /,
    *,
    nodes: Annotated[int, Parameter(help="How many nodes of the scene graph to print at most.")] = 40,
) -> None:
    """Show what an asset holds: counts, sizes, levels of detail, the scene graph.

    For example:

        farframe asset show engine.arrAsset
        farframe asset show engine.arrAsset --nodes 1000 --json
    """
    from farframe.cli import _asset

    _asset.show(file, nodes=nodes)


@config_app.command(name="check")
def check_config(
    file: Annotated[Path | None, Parameter(help="TOML file; without one, what FARFRAME_CONFIG names.")] = None, /
) -> None:
    """Check the configuration without starting anything: name the wrong key and what it takes.

    For example:

        farframe config check /etc/farframe/farframe.toml
    """
    from farframe.cli import _operations

    _operations.check_config(file)


@app.command
def backup(
    file: Path,
    /,
    *,
    data: Annotated[Path | None, Parameter(help="The service's data folder.")] = None,
    config: Annotated[Path | None, Parameter(help="The service's TOML file.")] = None,
) -> None:
    """Write the whole store into one file, also while services run.

    For example:

        farframe backup monday.farframe
    """
    from farframe.cli import _operations

    _operations.archive("backup", file, data, config)


@app.command
def restore(
    file: Path,
    /,
    *,
    data: Annotated[Path | None, Parameter(help="The service's data folder.")] = None,
    config: Annotated[Path | None, Parameter(help="The service's TOML file.")] = None,
) -> None:
    """Fill an empty store from a file that farframe backup wrote, be it SQLite or PostgreSQL.

    For example:

        farframe restore monday.farframe --data /srv/farframe
    """
    from farframe.cli import _operations

    _operations.archive("restore", file, data, config)


@app.command
def latency() -> None:
    """Measure round trip and throughput to every region from here, and name the best.

    For example:

        farframe latency
    """
    from farframe.cli import _operations

    _operations.latency()


@app.command
def usage(
    *,
    from_: Annotated[
        str | None, Parameter(name="--from", help="A day like 2026-11-01 or a time like 2026-11-01T12:00:00Z.")
    ] = None,
    to: Annotated[str | None, Parameter(help="Up to, not including, this day or time; now by default.")] = None,
    by: Annotated[str, Parameter(help="What to tell apart: day, size, or day,size.")] = "day,size",
    csv: Annotated[bool, Parameter(negative="", show_default=False, help="Print CSV.")] = False,
    all_accounts: Annotated[
        bool, Parameter(negative="", show_default=False, help="Of all accounts, as the service's operator.")
    ] = False,
) -> None:
    """Show what the account has used: minutes of sessions by size, and conversions.

    Counted is what has ended; days are those of UTC. Without --from, the month of --to.

    For example:

        farframe usage
        farframe usage --from 2026-10-01 --to 2026-11-01 --csv > october.csv
    """
    from farframe.cli import _operations

    _operations.usage(from_, to, by, as_csv=csv, all_accounts=all_accounts)


prices_app = App(
    name="prices",
    help="""Price lists, which value usage. A price never changes what was used before it.

For example:

    farframe prices list
    farframe prices add session 0.05 EUR --size standard --from 2026-12-01
""",
    help_format="plaintext",
)
app.command(prices_app)


@prices_app.command(name="list")
def list_prices() -> None:
    """List every price that was ever valid."""
    from farframe.cli import _operations

    _operations.prices()


@prices_app.command(name="add")
def add_price(
    kind: Annotated[Literal["session", "conversion"], Parameter(help="What it is for.")],
    per_minute: Annotated[str, Parameter(help="Price of a minute, like 0.05.")],
    currency: Annotated[str, Parameter(help="Three letters, like EUR.")],
    /,
    *,
    from_: Annotated[str, Parameter(name="--from", help="Valid from this day or time on.")],
    size: Annotated[str | None, Parameter(help="Size of the sessions: standard or premium.")] = None,
) -> None:
    """Add a price; the one before it ends where it begins."""
    from farframe.cli import _operations

    _operations.add_price(kind, per_minute, currency, begin=from_, size=size)


AccountArgument = Annotated[str, Parameter(help="Id of the account.")]


@account_app.command(name="create")
def create_account(
    name: Annotated[str, Parameter(help="A name for people.")],
    /,
    *,
    id_: Annotated[str | None, Parameter(name="--id", help="A UUID of your choice.")] = None,
) -> None:
    """Make an account and print its two keys, this once."""
    from farframe.cli import _operators

    _operators.create(name, id_)


@account_app.command(name="list")
def list_accounts() -> None:
    """List all accounts."""
    from farframe.cli import _operators

    _operators.list_all()


@account_app.command(name="show")
def show_account(account: AccountArgument, /) -> None:
    """Show an account and when its keys were set."""
    from farframe.cli import _operators

    _operators.show(account)


@account_app.command(name="delete")
def delete_account(
    account: AccountArgument,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Do not ask back.")] = False,
) -> None:
    """Delete an account: its keys and tokens are void, its sessions end, its uploads go."""
    from farframe.cli import _operators

    _operators.delete(account, sure=yes)


@account_app.command(name="regenerate-key")
def regenerate_key(
    account: AccountArgument,
    key: Annotated[Literal["1", "2"], Parameter(help="Which key: 1 (primary) or 2 (secondary).")],
    /,
) -> None:
    """Give an account a new key and print it. The former one and its tokens are void, the other key is untouched.

    To change keys without an outage, regenerate the one that nobody uses, hand it
    out, then regenerate the other.
    """
    from farframe.cli import _operators

    _operators.regenerate_key(account, int(key))


@account_app.command(name="revoke-tokens")
def revoke_tokens(account: AccountArgument, /) -> None:
    """Make all tokens of an account void, those from an identity provider too. Its keys stay."""
    from farframe.cli import _operators

    _operators.revoke_tokens(account)


@quota_app.command(name="show")
def show_quotas(account: AccountArgument, /) -> None:
    """Show an account's limits, and which of them are its own."""
    from farframe.cli import _operators

    _operators.show_quotas(account)


@quota_app.command(name="set")
def set_quotas(
    account: AccountArgument,
    limits: Annotated[
        list[str],
        Parameter(help="As NAME=VALUE: a number, none for no limit, or default for the service's.", metavar="LIMITS"),
    ],
    /,
) -> None:
    """Set some of an account's limits, all of those given or none of them.

    What runs already goes on; a limit holds for what comes.

    For example:

        farframe account quota set 3f0c6a52-7d0e-4a3b-9f0e-6d1f1a5b7c21 conversions=3 stored_bytes=default
    """
    from farframe.cli import _operators

    _operators.set_quotas(account, limits)


@app.command
def audit(
    *,
    account: Annotated[str | None, Parameter(help="Only what was done to this account.")] = None,
    action: Annotated[str | None, Parameter(help="Only this action, such as session.create.")] = None,
    from_: Annotated[str | None, Parameter(name="--from", help="Not before this date or time.")] = None,
    to: Annotated[str | None, Parameter(help="Before this date or time.")] = None,
    limit: Annotated[int, Parameter(help="At most so many entries, the newest.")] = 100,
) -> None:
    """Print who did what, as the service's operator.

    For example:

        farframe audit --limit 20
        farframe audit --account 3f0c6a52-7d0e-4a3b-9f0e-6d1f1a5b7c21 --from 2026-10-01 --json
    """
    from farframe.cli import _operators

    _operators.audit(account, action, from_, to, limit)


@app.command
def version() -> None:
    """Print the version of Farframe and of what it runs on."""
    import platform

    from farframe.cli._context import emit

    facts = {"farframe": __version__, "python": platform.python_version(), "platform": platform.platform()}
    emit(facts, "\n".join(f"{name} {value}" for name, value in facts.items()))


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    connection: Annotated[
        Path | None,
        Parameter(help="Connection file of the service. Default: FARFRAME_CONNECTION, else the running one."),
    ] = None,
    json: Annotated[bool, Parameter(negative="", show_default=False, help="Print results as JSON.")] = False,
    debug: Annotated[
        bool, Parameter(negative="", show_default=False, help="Print tracebacks, as FARFRAME_DEBUG=1 does.")
    ] = False,
) -> Any:
    context.connection, context.as_json, context.debug = connection, json, debug
    return app(tokens, print_error=False, exit_on_error=False, result_action="return_value")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app.meta(words, print_error=False, exit_on_error=False, result_action="return_value")
    except CycloptsError as error:
        return _misused(error, words)
    except KeyboardInterrupt:
        note("Interrupted.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough; keep the interpreter's last flush from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else EXIT_FAILED
    except Exception as error:
        return _failed(error)
    return 0


def _misused(error: CycloptsError, words: Sequence[str]) -> int:
    if debugging():
        traceback.print_exc()
    sentence = " ".join(str(error).split())
    if not sentence.endswith((".", "?", "!")):
        sentence += "."
    command = ["farframe", *(error.command_chain or ())]
    note(f"farframe: {sentence} See `{' '.join(command)} --help`.")
    return EXIT_MISUSED


def _failed(error: Exception) -> int:
    if debugging():
        traceback.print_exc()
        return EXIT_FAILED
    from farframe.client.errors import FarframeClientError

    if isinstance(error, FarframeClientError | CommandError):
        note(f"farframe: {error}")
    else:
        note(f"farframe: Something unexpected happened ({type(error).__name__}: {error}). Run it again with --debug.")
    return EXIT_FAILED
