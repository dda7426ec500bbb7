"""``adaptive-scan app``: Nion Swift with the plug-in."""

from __future__ import annotations

import argparse
import pathlib

from nionswift_plugin.adaptive_scan.profile import make_swift_home, run_swift


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "--home", type=pathlib.Path, metavar="DIR", help="private profile, settings and project (default: your own)"
    )


def run(options: argparse.Namespace) -> int:
    """Start Swift and wait for its end."""
    return run_swift(None if options.home is None else make_swift_home(options.home))
