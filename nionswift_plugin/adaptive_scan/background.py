"""Work that would keep the user interface waiting: reading models, asking a device for its state."""

from __future__ import annotations

import collections
import collections.abc
import logging
import threading
import typing

from adaptive_core.errors import AdaptiveScanError

logger = logging.getLogger(__name__)

Post = collections.abc.Callable[[collections.abc.Callable[[], None]], None]
"""Has a function called on the user interface's thread."""

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
        # A device that hangs must not keep Swift from quitting.
        threading.Thread(target=self._work, name="adaptive scan panel", daemon=True).start()

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
        """Forget the jobs that wait."""
        with self._condition:
            self._closed = True
            self._jobs.clear()
            self._condition.notify()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                _, job = self._jobs.popitem(last=False)
            job()
