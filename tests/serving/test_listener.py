"""The listening socket."""

import socket

import pytest

from emuron.errors import ServerError
from emuron.serving.listener import open_listener


def test_a_port_in_use_is_named() -> None:
    with open_listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} on 127.0.0.1 is in use"):
            open_listener("127.0.0.1", port)


def test_a_free_port_accepts_connections() -> None:
    with (
        open_listener("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname(), timeout=5),
    ):
        pass


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServerError, match=r"cannot listen on 192\.0\.2\.1"):
        open_listener("192.0.2.1", 0)


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(ServerError, match="65535"):
        open_listener("127.0.0.1", 70000)
