"""Time as it would pass on a machine on which nothing else runs."""

from __future__ import annotations

import os
import pathlib
import time


class QuietClock:
    """Measures time from when it is made, without that for which threads were ready but got no processor.

    On a quiet machine that is the time that passes. On a busy one it is an estimate that a bound can be put on:
    whatever computes, sleeps or waits for too long still counts. Linux tells of the waiting; elsewhere all time counts.

    Args:
        process: whose threads are looked at; by default this process.
    """

    def __init__(self, process: int | None = None) -> None:
        self._tasks = pathlib.Path(f"/proc/{os.getpid() if process is None else process}/task")
        self._before = self._threads()
        self._begun = time.perf_counter()

    def quiet_s(self, seconds: float) -> float:
        """How long something that took so many seconds since the beginning would have taken on a quiet machine."""
        ran_s, waited_s = 0.0, 0.0
        for thread, times in self._threads().items():
            before = self._before.get(thread, (0, 0))
            ran_s += (times[0] - before[0]) * 1e-9
            waited_s += (times[1] - before[1]) * 1e-9
        # The waits of threads that ran beside each other are counted twice; a share of the time is left all the same.
        share = ran_s / (ran_s + waited_s) if ran_s else 0.0
        return max(seconds - waited_s, seconds * share)

    @property
    def elapsed_s(self) -> float:
        """The time so far."""
        return self.quiet_s(time.perf_counter() - self._begun)

    def _threads(self) -> dict[str, tuple[int, int]]:
        """Time on a processor and time waiting for one (ns) of each thread that exists."""
        threads = {}
        for task in self._tasks.glob("*/schedstat"):
            try:
                ran, waited, _ = task.read_text().split()
            except OSError:  # it has ended
                continue
            threads[task.parent.name] = int(ran), int(waited)
        return threads
