"""Keeping Swift's user interface free: slow work on another thread, and its own work in small steps."""

from __future__ import annotations

import collections
import collections.abc
import logging
import math
import threading
import time
import typing

from adaptive_core.errors import AdaptiveScanError

logger = logging.getLogger(__name__)

Post = collections.abc.Callable[[collections.abc.Callable[[], None]], None]
"""Has a function called on the user interface's thread."""

Steps = collections.abc.Iterator[None]
"""Work that can be interrupted wherever it yields."""

_STEPS_S = 0.015
"""How long steps may take before the user interface has its turn."""
_CLOSE_TIMEOUT_S = 2.0
"""How long a window that is closed waits for a job; a device that hangs must not keep Swift from quitting."""

T = typing.TypeVar("T")


class Background:
    """One thread that works off jobs; of several jobs of a kind that wait only the newest is done.

    Args:
        post: brings results back to the user interface's thread.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._jobs: collections.OrderedDict[str, collections.abc.Callable[[], None]] = collections.OrderedDict()
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="adaptive scan panel", daemon=True)
        self._thread.start()

    def submit(
        self,
        kind: str,
        job: collections.abc.Callable[[], T],
        done: collections.abc.Callable[[T], None],
        failed: collections.abc.Callable[[str], None],
    ) -> None:
        """Do a job soon; ``done`` gets its result, or ``failed`` a line for the operator."""

        def work() -> None:
            try:
                result = job()
            except AdaptiveScanError as error:
                line = str(error)
            except Exception as error:
                if not self._closed:
                    logger.exception("The panel's job %s failed.", kind)
                line = f"{kind} failed: {error!r}"
            else:
                self._post(lambda: done(result))
                return
            self._post(lambda: failed(line))

        with self._condition:
            self._jobs[kind] = work
            self._condition.notify()

    def close(self) -> None:
        """Forget the jobs that wait, and wait for the present one: the devices that it looks at may go next."""
        with self._condition:
            self._closed = True
            self._jobs.clear()
            self._condition.notify()
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                _, job = self._jobs.popitem(last=False)
            job()


class Task:
    """A run on a thread of its own that can be stopped; a subclass does it in ``_work``.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._aborted = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        raise NotImplementedError

    def _abort(self, cancel: collections.abc.Callable[[], None] | None) -> None:
        """Ask for the end, and cancel what the device does; a device that hangs does not hang the caller."""
        self._aborted.set()
        if cancel is not None:
            threading.Thread(target=cancel, name=f"{self._thread.name} abort", daemon=True).start()


class StepQueue:
    """Work for the user interface's thread, done in order and a few steps at a time."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._waiting: collections.deque[Steps] = collections.deque()
        self._is_posted = False

    def add(self, steps: Steps) -> None:
        """Have these steps done after those that wait; from any thread."""
        with self._lock:
            self._waiting.append(steps)
            is_posted, self._is_posted = self._is_posted, True
        if not is_posted:
            self._post(self._work)

    def finish(self) -> None:
        """Do at once all that waits; on the user interface's thread."""
        while steps := self._first():
            self._go_on(steps, math.inf)

    def _first(self) -> Steps | None:
        with self._lock:
            self._is_posted = bool(self._waiting)
            return self._waiting[0] if self._waiting else None

    def _work(self) -> None:
        deadline = time.perf_counter() + _STEPS_S
        while steps := self._first():
            if not self._go_on(steps, deadline):
                self._post(self._work)
                return

    def _go_on(self, steps: Steps, deadline: float) -> bool:
        """Do steps until a time of ``time.perf_counter``; whether that was all."""
        try:
            for _ in steps:
                if time.perf_counter() > deadline:
                    return False
        except Exception:
            # What comes next, such as the end of a scan, must not be lost with it.
            logger.exception("Something could not be shown.")
        self._waiting.popleft()
        return True
