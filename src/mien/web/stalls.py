"""What Granian has no setting for: to cut off clients that take nothing of their answers."""

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

LOOK_S = 0.1


async def bound(seconds: float) -> None:
    """Once this process listens, let the kernel end connections whose client takes nothing for so long.

    Connections inherit the option from the socket that they came in by (tcp(7), TCP_USER_TIMEOUT); Linux has it, other
    systems go without.
    """
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    while not (found := listening()):
        await asyncio.sleep(LOOK_S)
    for one in found:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * seconds))
        one.close()


def listening() -> list[socket.socket]:
    """Copies of the TCP sockets on which this process listens."""
    sockets: dict[str, int] = {}
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            sockets[file.readlink().name] = int(file.name)
    found = []
    for kind, number in sockets.items():
        if not kind.startswith("socket:"):
            continue
        one = socket.socket(fileno=os.dup(number))
        if one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.append(one)
        else:
            one.close()
    return found
