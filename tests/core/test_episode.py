"""The loop, on a scanner made of an image."""

import time

import numpy as np
import pytest
from fake_scanner import FakeScanner, wavy_image
from scipy import ndimage

from adaptive_core import static_path
from adaptive_core.errors import DeviceDataError, DeviceTimeoutError, InvalidInputError, ModelError
from adaptive_core.partial_scan import Budget, Episode, Estimate, FinishReason, PartialImage, ScanPlan
from adaptive_core.partial_scan.error_policy import PredictedErrorPolicy
from adaptive_core.partial_scan.generator import built_in_generator
from adaptive_core.partial_scan.held_out import PARTS
from adaptive_core.partial_scan.static_policy import FULL_RASTER, STATIC_POLICIES, StaticPolicy
from adaptive_core.ports import ScannerAbilities
from adaptive_core.scan_path import Segment, inside

LINEAR = built_in_generator("linear-interpolation")


class HonestGenerator:
    """Linear interpolation whose predicted error grows with the distance to the nearest measured pixel."""

    name = "honest"
    predicts_error = True

    def __init__(self, fail_after=None):
        self.calls = 0
        self.fail_after = fail_after

    def complete(self, scan, channel=0):
        self.calls += 1
        if self.fail_after is not None and self.calls > self.fail_after:
            raise ModelError("honest: the output image is not finite.")
        plain = LINEAR.complete(scan, channel)
        distance = ndimage.distance_transform_edt(~scan.measured).astype(np.float32) / 20
        log_variance = 2 * np.log(distance + 1e-3)
        error = np.asarray(distance * scan.scale(channel)[1], dtype=np.float32)
        return Estimate(plain.image, error, np.stack([plain.standardised[0, 0], log_variance])[None], scan.probes)


class SegmentForward:
    """A policy that asks for the same segment again and again."""

    name = "forward"
    needs_estimate = False

    def __init__(self, segment=None):
        self.segment = segment or Segment((10, 10), (10, 37), 20)
        self.observations = []

    def start(self, plan, generator):
        return self

    def decide(self, observation):
        self.observations.append((observation.scan.probes, observation.remaining))
        return self.segment


def episode(scanner=None, policy=None, generator=LINEAR, budget=None, **options):
    scanner = scanner or FakeScanner()
    plan = ScanPlan(scanner.setup, budget or Budget(segments=20))
    return Episode(scanner, policy or StaticPolicy("uniform-grid"), generator, plan, **options)


def test_a_full_raster_visits_every_pixel_once_and_needs_the_budget_for_it():
    scanner = FakeScanner(wavy_image((16, 24)))
    with pytest.raises(InvalidInputError, match="of 16 x 24 px takes 384 probes, but the budget allows 200; set a cov"):
        episode(scanner, StaticPolicy(FULL_RASTER), budget=Budget(segments=10))
    run = episode(scanner, StaticPolicy(FULL_RASTER), budget=Budget(coverage=1.0))
    list(run.run())
    assert run.scan.probes == 16 * 24
    assert run.scan.measured.all()
    np.testing.assert_allclose(run.estimate.image, run.scan.image(), rtol=1e-5)


@pytest.mark.parametrize("name", STATIC_POLICIES)
def test_a_static_scan_completes_the_image(name):
    run = episode(policy=StaticPolicy(name))
    steps = list(run.run())
    assert run.finish_reason is FinishReason.COMPLETED
    assert run.scan.probes == steps[-1].probes
    assert 380 <= run.scan.probes <= 400
    assert steps[-1].coverage == run.scan.probes / 96**2
    assert [step.index for step in steps] == list(range(len(steps)))
    truth = wavy_image()[0]
    error = np.sqrt(np.mean((run.estimate.image - truth) ** 2)) / truth.std()
    assert error < {"uniform-grid": 0.2, "halton": 0.25}.get(name, 1.0)


def test_the_grid_s_positions_arrive_at_the_scanner_in_order():
    scanner = FakeScanner()
    list(episode(scanner).run())
    visited = np.concatenate([action.positions for action in scanner.actions])
    np.testing.assert_allclose(visited, static_path.uniform_grid((96, 96), 400))


def test_all_channels_are_kept_and_the_others_can_be_completed_afterwards():
    run = episode(FakeScanner(wavy_image(channels=3)))
    assert all(step.values.shape[0] == 3 for step in run.run())
    second = LINEAR.complete(run.scan, channel=1)
    truth = wavy_image(channels=3)[1]
    assert np.sqrt(np.mean((second.image - truth) ** 2)) < 0.2 * truth.std()


@pytest.mark.parametrize(
    "budget",
    [Budget(segments=7), Budget(coverage=0.03), Budget(dose_e_per_A2=20.0), Budget(segments=7, coverage=0.012)],
)
def test_the_budget_is_used_up_and_never_exceeded(budget):
    run = episode(policy=SegmentForward(), budget=budget)
    steps = list(run.run())
    assert run.scan.probes == run.plan.probes
    assert steps[-1].remaining == 0
    assert run.finish_reason is FinishReason.COMPLETED
    if budget.dose_e_per_A2:
        assert run.dose_e_per_A2 <= budget.dose_e_per_A2
        assert run.dose_e_per_A2 > 0.97 * budget.dose_e_per_A2


def test_exposure_while_waiting_counts_against_the_dose():
    quick = episode(policy=SegmentForward(), budget=Budget(dose_e_per_A2=50.0))
    slow = episode(FakeScanner(wait_us=200.0), policy=SegmentForward(), budget=Budget(dose_e_per_A2=50.0))
    for run in (quick, slow):
        assert [*run.run()][-1].dose_e_per_A2 <= 50.0 + run.plan.dose_of_probes(20)
    assert slow.scan.probes < 0.6 * quick.scan.probes


def test_dose_is_unknown_without_a_beam_current():
    run = episode(FakeScanner(beam_current_pa=None))
    assert all(step.dose_e_per_A2 is None for step in run.run())


def test_a_policy_sees_the_budget_run_down():
    policy = SegmentForward()
    list(episode(policy=policy, budget=Budget(segments=4)).run())
    assert policy.observations == [(0, 1.0), (20, 0.75), (40, 0.5), (60, 0.25)]


def test_closing_the_iterator_cancels_and_keeps_what_was_measured():
    scanner = FakeScanner()
    run = episode(scanner)
    steps = run.run()
    for _ in range(5):
        next(steps)
    assert scanner.in_session
    steps.close()
    assert run.finish_reason is FinishReason.CANCELLED
    assert not scanner.in_session
    assert run.scan.probes == 100
    assert run.estimate.probes == 100


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"error": DeviceTimeoutError("The device did not answer within 5 s.")}, DeviceTimeoutError),
        ({"values": np.zeros((1, 13), np.float32)}, DeviceDataError),
        ({"values": np.full((1, 20), np.nan, np.float32)}, DeviceDataError),
    ],
)
def test_a_failing_device_ends_the_scan_and_nothing_is_lost(fault, error):
    scanner = FakeScanner(fail_at=6, **fault)
    run = episode(scanner)
    with pytest.raises(error):
        list(run.run())
    assert run.finish_reason is FinishReason.FAILED
    assert not scanner.in_session
    assert run.scan.probes == 120
    assert np.isfinite(run.estimate.image).all()


def test_a_generator_that_fails_ends_the_scan_with_its_own_error():
    run = episode(policy=PredictedErrorPolicy(segments=1), generator=HonestGenerator(fail_after=3))
    with pytest.raises(ModelError, match="honest"):
        list(run.run())
    assert run.finish_reason is FinishReason.FAILED
    assert run.scan.probes == 80


def test_a_generator_that_fails_only_at_the_end_is_no_completed_scan():
    run = episode(generator=HonestGenerator(fail_after=0), display_interval_s=1e9)
    with pytest.raises(ModelError):
        list(run.run())
    assert run.finish_reason is FinishReason.FAILED
    assert run.scan.probes == 400


def test_following_the_predicted_error_spreads_the_segments():
    run = episode(policy=PredictedErrorPolicy(), generator=HonestGenerator())
    list(run.run())
    random = episode(policy=StaticPolicy("random-segments"))
    list(random.run())

    def largest_gap(scan):
        return ndimage.distance_transform_edt(~scan.measured).max()

    assert largest_gap(run.scan) < largest_gap(random.scan)
    assert all(inside(action.positions, (96, 96)).all() for action in run.scan.actions)


def test_the_scan_stops_when_the_predicted_error_is_low_enough():
    run = episode(
        policy=PredictedErrorPolicy(), generator=HonestGenerator(), budget=Budget(segments=200, predicted_error=0.3)
    )
    list(run.run())
    assert run.finish_reason is FinishReason.COMPLETED
    assert 10 < run.segments < 200
    assert run.estimate.predicted_error <= 0.3


def test_a_fast_scan_waits_for_the_predicted_error_that_may_end_it():
    class Slow(HonestGenerator):
        def complete(self, scan, channel=0):
            time.sleep(0.01)
            return super().complete(scan, channel)

    run = episode(policy=StaticPolicy("halton"), generator=Slow(), budget=Budget(segments=100, predicted_error=0.15))
    list(run.run())
    assert run.finish_reason is FinishReason.COMPLETED
    without = PartialImage((96, 96))
    for action, values in list(zip(run.scan.actions, run.scan.values, strict=True))[: int(run.segments / 1.2) - 1]:
        without.add(action, values)
    assert run.estimate.predicted_error <= 0.15 < Slow().complete(without).predicted_error


def test_live_completions_come_at_the_display_s_rate_and_not_once_a_segment():
    class Slow(FakeScanner):
        def scan(self, action):
            time.sleep(0.005)
            return super().scan(action)

    generator = HonestGenerator()
    run = episode(Slow(), generator=generator, display_interval_s=0.02)
    begun = time.perf_counter()
    shown = [step.estimate.probes for step in run.run() if step.estimate is not None]
    assert 1 <= len(shown) <= (time.perf_counter() - begun) / 0.02 + 2
    assert shown == sorted(shown)
    # One may not have been shown, one is the last, and the others calibrate that.
    assert generator.calls <= len(shown) + 2 + PARTS


def test_a_scan_is_continued_where_it_stopped():
    scanner = FakeScanner()
    first = episode(scanner, policy=StaticPolicy("halton"), budget=Budget(segments=5))
    list(first.run())
    second = episode(scanner, policy=StaticPolicy("halton"), budget=Budget(segments=8), scan=first.scan)
    assert len(list(second.run())) == 3
    assert second.scan.probes == 160
    assert first.scan.probes == 100
    visited = np.concatenate([action.positions for action in second.scan.actions])
    np.testing.assert_allclose(visited, static_path.halton((96, 96), 160))


@pytest.mark.parametrize("name", ["spiral", "serpentine", "uniform-grid"])
def test_a_path_that_is_continued_covers_the_whole_region_more_closely(name):
    scanner = FakeScanner()
    first = episode(scanner, policy=StaticPolicy(name), budget=Budget(segments=20))
    list(first.run())
    second = episode(scanner, policy=StaticPolicy(name), budget=Budget(segments=40), scan=first.scan)
    list(second.run())
    assert 700 < second.scan.probes <= 800
    counts = []
    for scan in (first.scan, second.scan):
        positions = np.concatenate([action.positions for action in scan.actions])
        counts.append(np.histogram2d(*positions.T, bins=3, range=((0, 96), (0, 96)))[0])
    added = counts[1] - counts[0]
    assert added.min() > 0.5 * counts[0].min()


def test_what_does_not_fit_together_is_refused_before_the_beam_moves():
    scanner = FakeScanner()
    with pytest.raises(InvalidInputError, match="predicts its error"):
        episode(scanner, policy=PredictedErrorPolicy())
    with pytest.raises(InvalidInputError, match="at least 50 us on this device, not 10"):
        episode(FakeScanner(abilities=ScannerAbilities(shortest_dwell_us=50)))
    with pytest.raises(InvalidInputError, match="must agree"):
        episode(scanner, scan=PartialImage((64, 96)))
    with pytest.raises(InvalidInputError, match="set up for"):
        Episode(
            scanner,
            StaticPolicy("spiral"),
            LINEAR,
            ScanPlan(FakeScanner(beam_current_pa=1.0).setup, Budget(segments=1)),
        )
    assert scanner.sessions == 0


def test_a_segment_out_of_the_region_never_reaches_the_device():
    scanner = FakeScanner()
    run = episode(scanner, policy=SegmentForward(Segment((10, 80), (10, 120), 20)))
    with pytest.raises(InvalidInputError):
        list(run.run())
    assert scanner.actions == []
    assert run.finish_reason is FinishReason.FAILED


@pytest.mark.parametrize(("segments", "completions"), [(1, 8), (4, 2)])
def test_on_a_large_region_one_completion_serves_several_decisions(segments, completions):
    generator = HonestGenerator()
    run = episode(
        FakeScanner(wavy_image((192, 192))),
        policy=PredictedErrorPolicy(segments),
        generator=generator,
        budget=Budget(segments=33),
        display_interval_s=1e9,
    )
    list(run.run())
    # 192 x 192 px are 4 times 96 x 96 px: after the first segment, a completion serves 4 times as many of 32 decisions;
    # one is the last, and three with a quarter less probes calibrate it.
    assert generator.calls == completions + 1 + 3
    starts = {action.start for action in run.scan.actions}
    assert len(starts) == 33


class DriftingScanner(FakeScanner):
    """A scanner whose specimen moves steadily, by ``drift_px`` while 400 positions are probed."""

    def __init__(self, image, drift_px):
        super().__init__(image)
        self.drift_px, self.probes = np.array(drift_px), 0

    def scan(self, action):
        time = (self.probes + np.arange(action.probes)) / 399
        self.probes += action.probes
        super().scan(action)
        where = action.positions - time[:, None] * self.drift_px
        return np.stack([ndimage.map_coordinates(c, (where - 0.5).T, order=1, mode="nearest") for c in self.image])


def test_a_drifting_specimen_is_completed_as_it_lay_at_the_beginning():
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1, 96, 96)), (0, 5, 5)).astype(np.float32)
    image /= image.std()
    runs = [
        episode(scanner, policy=StaticPolicy("halton"), generator=HonestGenerator(), budget=Budget(coverage=400 / 9216))
        for scanner in (FakeScanner(image), DriftingScanner(image, (3.0, -2.0)))
    ]
    for run in runs:
        list(run.run())
    true, drifted = runs
    assert true.estimate.position_errors is None
    np.testing.assert_allclose(drifted.estimate.position_errors.drift_px, (3.0, -2.0), atol=0.7)
    inner = np.s_[4:-4, 4:-4]
    as_commanded = HonestGenerator().complete(drifted.scan)
    errors = [np.mean((e.image - image[0])[inner] ** 2) for e in (true.estimate, drifted.estimate, as_commanded)]
    assert errors[1] < 0.5 * errors[2]
    assert errors[1] < 2 * errors[0]
    assert drifted.estimate.probes == drifted.scan.probes == 400
