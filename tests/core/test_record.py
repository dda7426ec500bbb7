"""Runs recorded in journals and told again."""

import contextlib
import json

import numpy as np
import pytest
import tiny_models
from fake_scanner import FakeScanner, wavy_image

from adaptive_core.errors import DeviceTimeoutError, InvalidInputError, JournalError, ModelError
from adaptive_core.journal import JournalWriter
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan import Budget, Episode, ScanPlan, catalogue
from adaptive_core.partial_scan.record import begin_journal, replay
from adaptive_core.scan_path import Segment


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "models"
    tiny_models.save(folder, "policy.onnx", tiny_models.direction_policy())
    tiny_models.save(folder, "generator.onnx", tiny_models.generator())
    return ModelLibrary([folder], shipped=tmp_path / "none")


def scan(path, library, policy="Tiny policy", generator="Tiny generator", scanner=None, **options):
    scanner = scanner or FakeScanner(wavy_image(channels=2))
    plan = ScanPlan(scanner.setup, Budget(segments=12))
    chosen = catalogue.policy(policy, library), catalogue.generator(generator, library)
    episode = Episode(scanner, *chosen, plan, journal=begin_journal(path, plan, *chosen), **options)
    with contextlib.suppress(DeviceTimeoutError):
        list(episode.run())
    return episode


@pytest.mark.parametrize("policy", ["Tiny policy", "halton", "spiral"])
@pytest.mark.parametrize("generator", ["Tiny generator", "linear-interpolation"])
def test_a_replay_gives_the_same_plan_path_values_and_estimate(tmp_path, library, policy, generator):
    episode = scan(tmp_path / "run.h5", library, policy, generator)
    again = replay(tmp_path / "run.h5", library)
    assert again.plan == episode.plan
    assert again.journal.finish_reason == "COMPLETED"
    assert [type(action) for action in again.scan.actions] == [type(action) for action in episode.scan.actions]
    np.testing.assert_array_equal(again.scan.model_input(), episode.scan.model_input())
    np.testing.assert_array_equal(again.estimate.image, episode.estimate.image)
    np.testing.assert_array_equal(again.journal.estimates[-1].image, episode.estimate.image)
    assert again.journal.entries[-1].dose_e_per_A2 == pytest.approx(episode.dose_e_per_A2)


def test_another_channel_can_be_completed_afterwards(tmp_path, library):
    episode = scan(tmp_path / "run.h5", library)
    second = replay(tmp_path / "run.h5", library, channel=1).estimate
    np.testing.assert_allclose(
        second.image[episode.scan.measured], episode.scan.image(1)[episode.scan.measured], rtol=1e-4
    )
    with pytest.raises(InvalidInputError, match="channels 0 to 1, not 2"):
        replay(tmp_path / "run.h5", library, channel=2)


def test_a_failed_run_is_replayed_up_to_its_failure(tmp_path, library):
    scanner = FakeScanner(fail_at=7, error=DeviceTimeoutError("The device did not answer."))
    scan(tmp_path / "run.h5", library, scanner=scanner)
    again = replay(tmp_path / "run.h5", library)
    assert again.journal.finish_reason == "FAILED"
    assert len(again.scan.actions) == 7
    assert all(isinstance(action, Segment) for action in again.scan.actions)


def test_a_continued_run_has_one_journal_that_holds_all_of_it(tmp_path, library):
    scanner = FakeScanner()
    first = scan(tmp_path / "first.h5", library, "halton", scanner=scanner)
    plan = ScanPlan(scanner.setup, Budget(segments=15))
    chosen = catalogue.policy("halton", library), catalogue.generator("Tiny generator", library)
    journal = begin_journal(tmp_path / "second.h5", plan, *chosen)
    list(Episode(scanner, *chosen, plan, journal=journal, scan=first.scan).run())
    assert len(replay(tmp_path / "second.h5", library).scan.actions) == 15


def test_a_missing_model_is_named(tmp_path, library):
    scan(tmp_path / "run.h5", library)
    with pytest.raises(ModelError, match=r"Tiny generator with the SHA-256 [0-9a-f]{64} is in none of"):
        replay(tmp_path / "run.h5", ModelLibrary([], shipped=tmp_path / "none"))


def test_other_files_are_refused(tmp_path, library):
    with pytest.raises(JournalError, match="no journal"):
        replay(tmp_path / "absent.h5", library)
    (tmp_path / "text.h5").write_text(json.dumps({"not": "a journal"}))
    with pytest.raises(JournalError, match="no readable journal"):
        replay(tmp_path / "text.h5", library)
    JournalWriter(tmp_path / "other.h5", {"loop": "alignment"}, {}, ("y", "x")).close("COMPLETED")
    with pytest.raises(JournalError, match="not the journal of a partial scan"):
        replay(tmp_path / "other.h5", library)


def test_a_journal_that_can_no_longer_be_written_ends_the_scan_and_keeps_the_data(tmp_path, library):
    scanner = FakeScanner()
    plan = ScanPlan(scanner.setup, Budget(segments=12))
    chosen = catalogue.policy("halton", library), catalogue.generator("Tiny generator", library)
    journal = begin_journal(tmp_path / "run.h5", plan, *chosen)
    episode = Episode(scanner, *chosen, plan, journal=journal)
    steps = episode.run()
    for _ in range(3):
        next(steps)
    journal.close("CANCELLED")
    with pytest.raises(JournalError):
        next(steps)
    assert episode.finish_reason == "FAILED"
    assert episode.scan.probes == 80
    assert episode.estimate.probes == 80
    assert not scanner.in_session
