import asyncio
import errno
import socket

import pytest

from mien.web import stalls

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has the option")


def test_listening_sockets_alone_are_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        found = stalls.listening()
        names = [one.getsockname() for one in found]
        for one in found:
            one.close()
        assert names.count(server.getsockname()) == 1


def test_who_takes_nothing_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asyncio.run(stalls.bound(0.5))
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(server.getsockname())
            connection, _ = server.accept()
            with connection:
                connection.settimeout(30)
                with pytest.raises(OSError, match="timed out") as cut:
                    send_endlessly(connection)
    assert cut.value.errno == errno.ETIMEDOUT


def send_endlessly(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 100_000)
