"""A thread that talks to a device, so that a device that hangs can be left behind."""

from __future__ import annotations

import concurrent.futures
import queue
import threading
import time
import typing

T = typing.TypeVar("T")

_POLL_S = 0.02


class _Call(typing.Generic[T]):
    """One function to be called on the thread, and what came of it."""

    def __init__(self, function: typing.Callable[[], T]) -> None:
        self._function = function
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.done = threading.Event()

    def carry_out(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as error:  # it belongs to the caller, on the other thread
            self._error = error
        self.done.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result[0]


class DeviceThread:
    """Carries out one call after another on a thread of its own.

    A call that does not come back cannot be ended from outside; its thread is given up, and being a daemon it does not
    keep the process alive.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[_Call[typing.Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: typing.Callable[[], T], timeout_s: float, stopped: threading.Event, grace_s: float) -> T:
        """Call the function and return its result, or raise what it raises.

        Args:
            function: talks to the device.
            timeout_s: how long it may take.
            stopped: set by another thread when the result is no longer wanted.
            grace_s: how long the function still has to come back after ``stopped`` was set.

        Raises:
            TimeoutError: if it took longer than ``timeout_s``.
            CancelledError: if it was stopped and did not come back within ``grace_s``.
        """
        call = _Call(function)
        self._calls.put(call)
        deadline = time.monotonic() + timeout_s
        last: float | None = None
        while not call.done.wait(_POLL_S):
            now = time.monotonic()
            if last is None and stopped.is_set():
                last = now + grace_s
            if last is not None and now > last:
                raise concurrent.futures.CancelledError
            if now > deadline:
                raise TimeoutError
        return call.result()

    def close(self) -> None:
        """Let the thread end after the calls it has."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.carry_out()
