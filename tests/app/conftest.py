"""A display, a private home and Nion Swift for each test of the real application."""

from __future__ import annotations

import collections.abc
import os
import pathlib
import shutil

import pytest
from swift_app import SwiftApp, VirtualDisplay

from nionswift_plugin.adaptive_scan.profile import SwiftHome, make_swift_home

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def display() -> collections.abc.Iterator[VirtualDisplay]:
    """One virtual display for all tests."""
    display = VirtualDisplay()
    yield display
    display.close()


@pytest.fixture
def home(tmp_path: pathlib.Path) -> SwiftHome:
    """A private home of Swift with an empty project."""
    return make_swift_home(tmp_path / "home")


@pytest.fixture
def make_swift(
    home: SwiftHome, display: VirtualDisplay, request: pytest.FixtureRequest
) -> collections.abc.Callable[[], SwiftApp]:
    """Starts Swift as a context; its pictures go to ``ci-output``, named after the test."""
    pictures = pathlib.Path(os.environ.get("CI_OUTPUT_DIR", ROOT / "ci-output"))
    pictures /= str(request.node.name).removeprefix("test_")
    shutil.rmtree(pictures, ignore_errors=True)
    return lambda: SwiftApp(home, display, pictures)
