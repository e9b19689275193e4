"""The socket that `edge serve` listens on: tried by the host before anything takes its time, taken by the server."""

from __future__ import annotations

import os
import socket

from edge.errors import EdgeError

BACKLOG = 128


def bind(host: str, port: int) -> socket.socket:
    """Raises EdgeError for a port in use, one that needs rights, and a name that is no address of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # a port that was just given up can be taken; on Windows it would let two listen
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, ValueError) as error:  # ValueError: a name that no resolver can be asked for
        why = getattr(error, "strerror", None) or str(error)
        raise EdgeError(
            f"can't listen on {host} port {port}: {why}", "choose another --port (0 takes a free one)"
        ) from None
    return listener
