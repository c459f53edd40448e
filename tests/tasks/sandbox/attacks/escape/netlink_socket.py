"""Asks the kernel for its network interfaces."""
# works at: bare process
import socket


def attack():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as asker:
        return asker.fileno()
