"""The listening socket, taken before anything slow is done."""

from __future__ import annotations

import errno
import socket

from emuron.errors import ServerError


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket bound to `host` and `port` (0: any free one); raise ServerError if taken."""
    if not 0 <= port <= 65535:
        raise ServerError(f"--port must lie between 0 and 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ServerError(f"--host {host!r} is no address of this machine: {error}") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServerError(
                f"port {port} on {host} is in use; stop what listens there or choose another --port"
            ) from error
        raise ServerError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener
