"""``farframe view``: a one-time link into the browser."""

from __future__ import annotations

from dataclasses import replace

from farframe.cli._context import CommandError, context, emit, error_console, note, run_async
from farframe.client.management import ViewerLink


def console(*, open_browser: bool) -> None:
    """Print a link to the account's console, and open it if wanted."""

    async def work() -> ViewerLink:
        async with context.client() as client:
            return await client.create_console_link()

    link = run_async(work())
    emit({"url": link.url, "expiresAt": link.expires_at.isoformat()}, link.url)
    if not context.as_json:
        note("The link opens the console once.")
    if open_browser:
        _open(link)


def view(session_id: str | None, *, open_browser: bool, watch: bool, size: str, lease_minutes: int, way: str) -> None:
    """Print a link to the viewer of a session, created if none is named, and open it if wanted."""
    if watch and session_id is None:
        raise CommandError("There is nothing to watch without a session. Name the session that shall be watched.")

    async def work() -> tuple[str, ViewerLink]:
        async with context.client() as client:
            if session_id is not None:
                session = await client.get_session(session_id)
                await session.wait_until_ready()
                return session.id, await client.create_viewer_link(session.id, "Viewer" if watch else "Client")
            with error_console().status("Leasing a render server"):
                session = await client.create_session(size, lease_minutes)
                try:
                    await session.wait_until_ready()
                    link = await client.create_viewer_link(session.id)
                except BaseException:
                    # Nobody would know of this session: do not leave it behind.
                    await client.stop_surely(session.id)
                    raise
            return session.id, link

    used, link = run_async(work())
    if way != "auto":
        # The page reads it; the secret stays behind the #, where no server sees it.
        link = replace(link, url=link.url.replace("#", f"?way={way}#", 1))
    emit({"session": used, "url": link.url, "expiresAt": link.expires_at.isoformat()}, link.url)
    if not context.as_json and watch:
        note("The link opens the viewer once, to watch what the driving device sees.")
    elif not context.as_json:
        note(f"The link opens the viewer once. When you are done: farframe session stop {used}")
    if open_browser:
        _open(link)


def _open(link: ViewerLink) -> None:
    import webbrowser

    if not webbrowser.open(link.url):
        note("No browser could be opened; open the link yourself.")
