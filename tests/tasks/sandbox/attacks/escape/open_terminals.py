"""Opens terminals and devices that lead to the machine."""
import os


def attack():
    opened = []
    for path in ("/dev/tty", "/dev/pts/0", "/dev/kmsg", "/dev/mem", "/dev/kvm", "/dev/vsock",
                 "/dev/loop-control", "/dev/nvidia0", "/dev/dri/card0", "/dev/vda", "/dev/sda", "/dev/rtc0"):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
                opened.append(path)
            except OSError:
                continue
    return opened
