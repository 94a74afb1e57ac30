"""``python -m farframe.server --link-fd N``: a render server. Started by a fleet, never by hand.

Its configuration comes as JSON (:class:`farframe.protocol.link.ServerConfig`) on standard input; ``N`` is the listening
Unix socket that its supervisor made.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys

import msgspec

from farframe.protocol.link import ServerConfig


def main() -> int:
    """Read the configuration and serve. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="farframe.server", description=__doc__)
    parser.add_argument("--link-fd", type=int, required=True, help="descriptor of the listening Unix socket")
    arguments = parser.parse_args()
    link = socket.socket(fileno=arguments.link_fd)
    link.setblocking(False)
    try:
        config = msgspec.json.decode(sys.stdin.buffer.read(), type=ServerConfig)
    except msgspec.DecodeError as error:
        print(f"farframe.server: the configuration is not valid: {error}", file=sys.stderr)
        return 2

    from farframe.server.process import RenderServer

    async def serve() -> int:
        return await RenderServer(config, link).run()

    return asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
