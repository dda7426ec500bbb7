"""What keeps the user interface free."""

from __future__ import annotations

import collections.abc
import queue
import threading
import time

import pytest

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan import background as background_module
from nionswift_plugin.adaptive_scan.background import Background, StepQueue, Steps

Task = collections.abc.Callable[[], None]


class Interface:
    """A user interface's thread: what was posted is done when :meth:`round` is called."""

    def __init__(self) -> None:
        self.tasks: queue.Queue[Task] = queue.Queue()

    def round(self) -> None:
        for _ in range(self.tasks.qsize()):
            self.tasks.get()()

    def until(self, condition: collections.abc.Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            self.round()
            time.sleep(0.001)


@pytest.fixture
def interface() -> Interface:
    return Interface()


def test_jobs_are_done_on_another_thread_and_answered_on_this_one(interface: Interface) -> None:
    background = Background(interface.tasks.put)
    answers: list[tuple[int, int]] = []
    background.submit(
        "job", threading.get_ident, lambda ident: answers.append((ident, threading.get_ident())), pytest.fail
    )
    interface.until(lambda: answers)
    assert answers[0][0] != threading.get_ident() == answers[0][1]
    background.close()


def test_of_several_jobs_of_a_kind_the_newest_is_done(interface: Interface) -> None:
    background = Background(interface.tasks.put)
    gate, begun = threading.Event(), threading.Event()
    answers: list[str] = []

    def wait() -> str:
        begun.set()
        gate.wait(10)
        return "first"

    background.submit("job", wait, answers.append, pytest.fail)
    begun.wait(10)
    for number in range(5):
        background.submit("job", lambda number=number: f"job {number}", answers.append, pytest.fail)
        background.submit("other", lambda: "other", answers.append, pytest.fail)
    gate.set()
    interface.until(lambda: len(answers) == 3)
    assert answers == ["first", "job 4", "other"]
    background.close()


def test_errors_become_lines(interface: Interface) -> None:
    background = Background(interface.tasks.put)
    lines: list[str] = []

    def refuse() -> None:
        raise InvalidInputError("The size must be positive.")

    def fail() -> None:
        raise ZeroDivisionError("by zero")

    background.submit("The prediction", refuse, pytest.fail, lines.append)
    interface.until(lambda: len(lines) == 1)
    background.submit("The prediction", fail, pytest.fail, lines.append)
    interface.until(lambda: len(lines) == 2)
    assert lines == ["The size must be positive.", "The prediction failed: ZeroDivisionError('by zero')"]
    background.close()


def test_closing_waits_for_the_present_job_but_not_for_one_that_hangs(
    interface: Interface, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    background = Background(interface.tasks.put)
    begun, gate, looked = threading.Event(), threading.Event(), []

    def look() -> None:
        begun.set()
        gate.wait(10)
        looked.append("device")

    background.submit("job", look, lambda _: None, pytest.fail)
    background.submit("other", lambda: looked.append("other"), lambda _: None, pytest.fail)
    begun.wait(10)
    threading.Timer(0.05, gate.set).start()
    background.close()
    assert looked == ["device"]

    monkeypatch.setattr(background_module, "_CLOSE_TIMEOUT_S", 0.01)
    background, begun, gate = Background(interface.tasks.put), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait(10)
        raise AttributeError("The device is closed.")

    background.submit("job", hang, pytest.fail, lambda _: None)
    begun.wait(10)
    background.close()
    gate.set()
    background._thread.join(10)
    assert not caplog.records


def steps(name: str, count: int, done: list[str], seconds: float = 0.0) -> Steps:
    for number in range(count):
        time.sleep(seconds)
        done.append(f"{name}{number}")
        yield


def test_steps_are_done_in_order_and_make_room(interface: Interface) -> None:
    done: list[str] = []
    steps_queue = StepQueue(interface.tasks.put)
    steps_queue.add(steps("a", 5, done, 0.01))
    steps_queue.add(steps("b", 2, done))
    interface.round()
    assert 1 <= len(done) <= 3
    interface.until(lambda: len(done) == 7)
    assert done == ["a0", "a1", "a2", "a3", "a4", "b0", "b1"]


def test_a_step_that_fails_does_not_hold_up_the_next(interface: Interface, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail() -> Steps:
        yield
        raise ZeroDivisionError("by zero")

    steps_queue = StepQueue(interface.tasks.put)
    steps_queue.add(fail())
    steps_queue.add(steps("b", 1, done))
    interface.until(lambda: done == ["b0"])
    assert "by zero" in caplog.text
    steps_queue.add(steps("c", 1, done))
    interface.until(lambda: done == ["b0", "c0"])


def test_what_waits_can_be_done_at_once(interface: Interface) -> None:
    done: list[str] = []
    steps_queue = StepQueue(interface.tasks.put)
    steps_queue.add(steps("a", 3, done, 0.02))
    interface.round()
    steps_queue.add(steps("b", 2, done))
    steps_queue.finish()
    assert done == ["a0", "a1", "a2", "b0", "b1"]
    interface.round()
    assert len(done) == 5
