"""One scan of one truth for the benchmark: by the product's own loop, on a scanner that is made of the truth."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core import metrics
from adaptive_core.dose import ELEMENTARY_CHARGE_C
from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.calibration import INTERVAL_90
from adaptive_core.partial_scan.episode import Episode
from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import Budget, ScanPlan
from adaptive_core.partial_scan.policy import Policy
from adaptive_core.partial_scan.truths import FloatImage, shot_noise
from adaptive_core.ports import ScannerAbilities, ScannerSetup
from adaptive_core.scan_path import Action, FloatArray, Positions, inside, rasterize

_DWELL_US = 1.0


@dataclasses.dataclass(frozen=True)
class Spending:
    """What a scan of one truth may spend.

    Attributes:
        probes: number of probes.
        electrons_per_probe: expected number that a probe detects where the truth is brightest; None for no noise.
        pixel_size_nm: nm a pixel, by which electrons become a dose.
    """

    probes: int
    electrons_per_probe: float | None
    pixel_size_nm: float


@dataclasses.dataclass(frozen=True, eq=False)
class Scanned:
    """A finished scan of a truth.

    Attributes:
        scan: what was measured.
        estimate: its completion; None until it is made.
        decide_s: time that all decisions took, with the completions that they looked at.
        dose_e_per_A2: electrons over the area of the region; None without noise.
    """

    scan: PartialImage
    estimate: Estimate | None
    decide_s: float
    dose_e_per_A2: float | None

    @property
    def positions(self) -> FloatArray:
        """Where the probe was, shape (probes, 2), px, in order."""
        return self.scan.positions


class TruthScanner:
    """Implements :class:`adaptive_core.ports.PathScanner` on a truth (height, width) in [-1, 1].

    It samples the pixel that holds the probe position, with Poisson noise at a finite dose.
    """

    def __init__(self, truth: FloatImage, spending: Spending, seed: int) -> None:
        self.abilities = ScannerAbilities(positions_per_command=truth.size, can_blank=True, gates_beam=True)
        self.setup = _setup((truth.shape[0], truth.shape[1]), spending)
        self.beam_on_us = 0.0
        self._truth, self._electrons = truth, spending.electrons_per_probe
        # Not the stream of a policy that draws from the plan's seed.
        self._rng = np.random.default_rng([1, seed])

    def check(self, action: Action) -> None:
        if not inside(action.positions, self.setup.size_px).all():
            raise InvalidInputError(f"A policy asked for a position outside of the region of {self.setup.size_px} px.")

    def session(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def scan(self, action: Action) -> npt.NDArray[np.float32]:
        values = self._truth[rasterize(action.positions, self.setup.size_px)]
        self.beam_on_us += action.probes * self.setup.dwell_us
        if self._electrons is not None:
            values = shot_noise(values, self._electrons, self._rng).astype(np.float32)
        return values[None]


def _setup(size_px: tuple[int, int], spending: Spending) -> ScannerSetup:
    current_pa = None
    if spending.electrons_per_probe is not None:
        current_pa = spending.electrons_per_probe * ELEMENTARY_CHARGE_C / (_DWELL_US * 1e-18)
    return ScannerSetup(size_px, spending.pixel_size_nm, _DWELL_US, ("truth",), current_pa)


def plan_for(policy: Policy | None, size_px: tuple[int, int], spending: Spending, seed: int) -> ScanPlan:
    """The plan of a scan; a model acts in the number of probes that it was trained for."""
    budget = Budget(coverage=min(spending.probes / math.prod(size_px), 1.0))
    plan = ScanPlan(_setup(size_px, spending), budget, seed=seed)
    if isinstance(policy, OnnxPolicy) and policy.model.card.probes_per_segment is not None:
        plan = dataclasses.replace(plan, probes_per_segment=policy.model.card.probes_per_segment)
    return plan


def adapt(policy: Policy, generator: Generator, truth: FloatImage, spending: Spending, seed: int) -> Scanned:
    """Scan a truth (height, width) as a policy decides, by the scan loop itself.

    Raises:
        InvalidInputError: if the policy and the generator do not fit this scan.
    """
    scanner = TruthScanner(truth, spending, seed)
    plan = plan_for(policy, scanner.setup.size_px, spending, seed)
    episode = Episode(scanner, policy, generator, plan, display_interval_s=math.inf)
    decide_s = sum(step.decide_s for step in episode.run())
    return Scanned(episode.scan, episode.estimate, decide_s, episode.dose_e_per_A2)


def follow(positions: FloatArray, truth: FloatImage, spending: Spending, seed: int) -> Scanned:
    """Scan a truth (height, width) at given positions, shape (n, 2) px, without a completion yet."""
    scanner = TruthScanner(truth, spending, seed)
    scan, action = PartialImage(scanner.setup.size_px), Positions(positions)
    scanner.check(action)
    scan.add(action, scanner.scan(action))
    meter = plan_for(None, scanner.setup.size_px, spending, seed).dose_meter
    return Scanned(scan, None, 0.0, meter.dose_e_per_A2(scanner.beam_on_us))


def jumps(positions: FloatArray, spacing_px: float) -> int:
    """How often the beam has to settle on its way along positions, shape (n, 2) px.

    It does not where the next position is within two probe spacings, as along any continuous path, nor within a
    straight run of evenly spaced positions, which is a line of a coarse raster.
    """
    steps = np.diff(positions, axis=0)
    near = np.hypot(steps[:, 0], steps[:, 1]) <= 2 * spacing_px
    same = np.zeros(len(steps) + 1, dtype=np.bool_)
    same[1:-1] = np.abs(np.diff(steps, axis=0)).max(axis=1) < 1e-6
    return int(np.count_nonzero(~(near | same[:-1] | same[1:])))


@dataclasses.dataclass(frozen=True)
class Score:
    """How good one completion is.

    Attributes:
        mse, psnr_db, ssim: against the truth in [-1, 1], over all pixels.
        probes, jumps: number of probes and of jumps of the beam.
        decide_s: time that all decisions took.
        dose_e_per_A2: None without noise.
        inside_90: fraction of the unmeasured pixels whose truth lies in the predicted 90 % interval; this and the next
            two are None where no error is predicted or nothing is left unmeasured.
        width_90: mean width of that interval in units of truths in [-1, 1].
        nll: mean negative log-likelihood (nat a pixel) of the truth at the unmeasured pixels, the error being normal.
    """

    mse: float
    psnr_db: float
    ssim: float
    probes: int
    jumps: int
    decide_s: float
    dose_e_per_A2: float | None
    inside_90: float | None = None
    width_90: float | None = None
    nll: float | None = None


def score(scanned: Scanned, estimate: Estimate, truth: FloatImage, spacing_px: float) -> Score:
    """Judge a completion by the truth (height, width) in [-1, 1]."""
    mse = metrics.mse(estimate.image, truth)
    basic = Score(
        mse=mse,
        psnr_db=metrics.psnr_db(estimate.image, truth),
        ssim=metrics.ssim(estimate.image, truth),
        probes=scanned.scan.probes,
        jumps=jumps(scanned.positions, spacing_px),
        decide_s=scanned.decide_s,
        dose_e_per_A2=scanned.dose_e_per_A2,
    )
    unmeasured = ~scanned.scan.measured
    if estimate.error is None or not unmeasured.any():
        return basic
    sd = np.maximum(estimate.error[unmeasured].astype(np.float64), 1e-9)
    deviation = (estimate.image[unmeasured] - truth[unmeasured].astype(np.float64)) / sd
    return dataclasses.replace(
        basic,
        inside_90=float(np.mean(np.abs(deviation) <= INTERVAL_90)),
        width_90=float(2 * INTERVAL_90 * sd.mean()),
        nll=float(np.mean(0.5 * deviation**2 + np.log(sd)) + 0.5 * math.log(2 * math.pi)),
    )


def mean_of(values: collections.abc.Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
