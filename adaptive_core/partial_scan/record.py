"""Partial scans in journals: begin one for a run, and tell a run again without hardware."""

from __future__ import annotations

import dataclasses
import pathlib

from adaptive_core.errors import InvalidInputError, JournalError
from adaptive_core.finish_reason import FinishReason
from adaptive_core.journal import JournalEntry, JournalWriter, ModelRecord
from adaptive_core.journal_reader import Journal, read_journal
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan.finishing import finished
from adaptive_core.partial_scan.generator import (
    BUILT_IN_GENERATORS,
    Estimate,
    Generator,
    OnnxGenerator,
    built_in_generator,
)
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.partial_scan.policy import Policy
from adaptive_core.scan_path import Action, Positions, Segment

LOOP = "partial_scan"


def model_records(policy: Policy, generator: Generator) -> dict[str, ModelRecord]:
    """How journals and metadata name the models of a run, by their part in it."""
    return {
        "policy": ModelRecord(policy.name, policy.model.sha256 if isinstance(policy, OnnxPolicy) else None),
        "generator": ModelRecord(
            generator.name, generator.model.sha256 if isinstance(generator, OnnxGenerator) else None
        ),
    }


def begin_journal(path: pathlib.Path, plan: ScanPlan, policy: Policy, generator: Generator) -> JournalWriter:
    """The journal of a run that is about to start. Raises JournalError if it cannot be written."""
    described = {"loop": LOOP, **plan.to_dict()}
    return JournalWriter(path, described, model_records(policy, generator), plan.setup.channels, plan.setup.size_px)


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
    """A run told again.

    Attributes:
        journal: everything that was recorded.
        plan: what was decided before the run.
        scan: everything that was measured.
        estimate: the completion of it, made anew by the run's generator.
    """

    journal: Journal
    plan: ScanPlan
    scan: PartialImage
    estimate: Estimate


def replay(path: pathlib.Path, library: ModelLibrary, channel: int = 0) -> Replay:
    """Rebuild a run's measurement and estimate from its journal, also of a run that was cut short.

    Raises:
        JournalError: if the journal cannot be read or holds no measurement of a partial scan.
        ModelError: if its generator is in no folder of the library; the message names it.
        InvalidInputError: if there is no such channel.
    """
    journal = read_journal(path)
    described = dict(journal.plan)
    if described.pop("loop", None) != LOOP:
        raise JournalError(f"{path} is not the journal of a partial scan.")
    plan = ScanPlan.from_dict(described)
    if not journal.entries:
        raise JournalError(f"{path} holds no finished action.")
    if not 0 <= channel < len(journal.channels):
        raise InvalidInputError(f"The run has the channels 0 to {len(journal.channels) - 1}, not {channel}.")
    scan = PartialImage(plan.setup.size_px, len(journal.channels))
    for entry in journal.entries:
        scan.add(_action(entry), entry.values)
    generator = _generator(journal.models["generator"], library)
    estimate = generator.complete(scan, channel)
    if journal.finish_reason == FinishReason.COMPLETED:
        estimate = finished(estimate, scan, generator, channel)
    return Replay(journal, plan, scan, estimate)


def _action(entry: JournalEntry) -> Action:
    if entry.kind == Segment.kind:
        (y0, x0), (y1, x1) = entry.positions[0].tolist(), entry.positions[-1].tolist()
        return Segment((y0, x0), (y1, x1), len(entry.positions))
    return Positions(entry.positions)


def _generator(record: ModelRecord, library: ModelLibrary) -> Generator:
    if record.sha256 is None and record.name in BUILT_IN_GENERATORS:
        return built_in_generator(record.name)
    return OnnxGenerator(library.find(record.sha256 or "none", record.name))
