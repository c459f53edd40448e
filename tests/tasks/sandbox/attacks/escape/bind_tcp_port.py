"""Listens on the loopback interface."""
# works at: bare process
import socket


def attack():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
