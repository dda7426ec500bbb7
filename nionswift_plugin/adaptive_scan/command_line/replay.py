"""``adaptive-scan replay``: the estimate and the picture of a run, from its journal alone."""

from __future__ import annotations

import argparse
import pathlib

from adaptive_core.errors import InvalidInputError, JournalError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan.record import replay
from nionswift_plugin.adaptive_scan.command_line.scan_report import corrected_line, write_picture
from nionswift_plugin.adaptive_scan.swift_folders import user_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "run", type=pathlib.Path, metavar="RUN", help="the journal of a run, or the folder that holds it"
    )
    parser.add_argument(
        "--channel", type=int, default=0, metavar="N", help="the recorded channel to complete (default: 0)"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="DIR", help="folder for replay.png (default: the journal's)"
    )


def run(options: argparse.Namespace) -> int:
    """Rebuild a run."""
    path = _find_journal(options.run)
    try:
        told = replay(path, ModelLibrary([user_folders().models]), options.channel)
    except JournalError as error:
        # A journal that was asked for by name is input like any other.
        raise InvalidInputError(str(error)) from error
    setup, journal = told.plan.setup, told.journal
    dose = journal.entries[-1].dose_e_per_A2
    lines = [
        f"{journal.finish_reason or 'not finished'}: {journal.models['policy'].name} with "
        f"{journal.models['generator'].name}, {journal.started}",
        f"{told.scan.probes} probes on {setup.size_px[0]} x {setup.size_px[1]} px (coverage {told.scan.coverage:.2%}), "
        f"{'unknown dose' if dose is None else f'{dose:.4g} e-/A^2'}, channel {setup.channels[options.channel]}",
    ]
    if told.estimate.position_errors is not None:
        lines.append(corrected_line(told.estimate.position_errors))
    picture = write_picture(
        (options.out or path.parent) / "replay.png",
        size_px=setup.size_px,
        actions=told.scan.actions,
        estimate=told.estimate,
        truth=None,
        pixel_size_nm=setup.pixel_size_nm,
        caption=lines,
    )
    print(*lines, picture, sep="\n")
    return 0


def _find_journal(run: pathlib.Path) -> pathlib.Path:
    """The journal itself, or the latest one in a folder. Raises InvalidInputError."""
    if not run.is_dir():
        if not run.exists():
            raise InvalidInputError(f"There is no run {run}.")
        return run
    journals = sorted(run.glob("*.h5"), key=lambda path: path.stat().st_mtime)
    if not journals:
        raise InvalidInputError(f"The folder {run} holds no journal (*.h5).")
    return journals[-1]
