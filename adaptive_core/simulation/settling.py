"""How a shift that is asked for arrives: nothing during a latency, then exponentially in time."""

from __future__ import annotations

import collections
import collections.abc
import math
import threading
import time

Point = tuple[float, float]


class SettlingShift:
    """A shift (y, x) that follows what is asked for; it may be asked on one thread and read on another.

    From the time t0 at which a value u arrives, the shift is u + (shift(t0) - u) exp(-(t - t0) / settle_s).

    Args:
        start: the shift at first, settled.
        latency_s: from asking for a value until it arrives.
        settle_s: time constant; 0 for at once.
        clock: tells the time, s; it never goes back.
    """

    def __init__(
        self,
        start: Point,
        latency_s: float = 0.0,
        settle_s: float = 0.0,
        clock: collections.abc.Callable[[], float] = time.monotonic,
    ) -> None:
        self._latency_s = latency_s
        self._settle_s = settle_s
        self._clock = clock
        self._asked = self._goal = self._shift = start
        self._arrivals: collections.deque[tuple[float, Point]] = collections.deque()
        self._last_s = self._changed_s = -math.inf
        self._lock = threading.Lock()

    def ask(self, value: Point) -> None:
        """Ask for a value now; asking for the same one again changes nothing."""
        with self._lock:
            if value != self._asked:
                self._asked = value
                self._changed_s = self._clock()
                self._arrivals.append((self._changed_s + self._latency_s, value))

    def unchanged_s(self) -> float:
        """For how long nothing else has been asked for, s; infinite at first."""
        with self._lock:
            return self._clock() - self._changed_s

    def now(self) -> Point:
        """The shift at this moment."""
        with self._lock:
            now_s = self._clock()
            while self._arrivals and self._arrivals[0][0] <= now_s:
                arrived_s, goal = self._arrivals.popleft()
                self._settle_until(arrived_s)
                self._goal = goal
            self._settle_until(now_s)
            return self._shift

    def _settle_until(self, now_s: float) -> None:
        left = math.exp((self._last_s - now_s) / self._settle_s) if self._settle_s else 0.0
        (y, x), (goal_y, goal_x) = self._shift, self._goal
        self._shift = goal_y + left * (y - goal_y), goal_x + left * (x - goal_x)
        self._last_s = now_s
