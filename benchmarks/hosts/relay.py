"""Delay and loss of the frames that hosts send, by a program between their cables and the bridge.

    python -m benchmarks.hosts.relay DELAY_MS LOSS_PERCENT A:B [A:B ...]

Not every kernel has netem, the queue that does this (the one of this benchmark's first machine has none). This program
makes two TAP devices for each pair: what comes in at ``A``, the side of the host, leaves at ``B`` after the delay or is
lost; what comes in at ``B`` leaves at ``A`` at once. It ends when its standard input does, and the devices with it.
Source: Documentation/networking/tuntap.rst of Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
FRAME_BYTES = 65_600


class Line:
    """Frames on their way: each comes out ``delay_s`` after it went in, in order, unless it is lost."""

    def __init__(self, delay_s: float, loss: float, seed: int = 0) -> None:
        self._delay_s, self._loss, self._random = delay_s, loss, random.Random(seed)
        self._waiting: deque[tuple[float, int, bytes]] = deque()

    def put(self, now: float, to: int, frame: bytes) -> None:
        """Take a frame for the descriptor ``to`` at ``now``, in seconds."""
        if self._random.random() >= self._loss:
            self._waiting.append((now + self._delay_s, to, frame))

    def take(self, now: float) -> list[tuple[int, bytes]]:
        """Return the frames that are due, with their descriptors."""
        due = []
        while self._waiting and self._waiting[0][0] <= now:
            _, to, frame = self._waiting.popleft()
            due.append((to, frame))
        return due

    def wait_s(self, now: float) -> float | None:
        """Return the time until the next frame is due; None if there is none."""
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None


def open_tap(name: str) -> int:
    """Make a TAP device that exists while the descriptor is open."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return descriptor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("delay_ms", type=float)
    parser.add_argument("loss_percent", type=float)
    parser.add_argument("pairs", nargs="+", metavar="A:B", help="names of two devices to make")
    options = parser.parse_args()
    line = Line(options.delay_ms / 1000, options.loss_percent / 100)
    across: dict[int, int] = {}
    sending = set()
    for pair in options.pairs:
        a, b = map(open_tap, pair.split(":"))
        across |= {a: b, b: a}
        sending.add(a)
    print("ready", flush=True)
    poll = select.poll()
    for descriptor in (*across, sys.stdin.fileno()):
        poll.register(descriptor, select.POLLIN)
    while True:
        wait_s = line.wait_s(time.monotonic())
        for descriptor, _ in poll.poll(None if wait_s is None else 1000 * wait_s):
            if descriptor not in across:
                return
            with contextlib.suppress(OSError):  # a device that is down
                frame = os.read(descriptor, FRAME_BYTES)
                if descriptor in sending:
                    line.put(time.monotonic(), across[descriptor], frame)
                else:
                    _send(across[descriptor], frame)
        for to, frame in line.take(time.monotonic()):
            _send(to, frame)


def _send(to: int, frame: bytes) -> None:
    with contextlib.suppress(OSError):  # a full queue loses frames, as that of a network card does
        os.write(to, frame)


if __name__ == "__main__":
    main()
