"""Opens a local socket, by which services of the host are reached."""
# works at: bare process
import socket


def attack():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind("\0candidate")
        return True
