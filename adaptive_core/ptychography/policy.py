"""Policies: they are asked for one sub-sequence of probe positions after another, given what was seen so far."""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.model_library import LoadedModel, ModelLibrary
from adaptive_core.ptychography import metrics, positions
from adaptive_core.ptychography.object_grid import image_at
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import Calibration
from adaptive_core.simulation.ptychography_probe import FloatArray

FloatInput = npt.NDArray[np.float32]
STOPPING_PIXEL_A = 0.2
"""Sampling on which a scan's live images are compared with each other."""


@dataclasses.dataclass(frozen=True)
class PtychographyPlan:
    """How many patterns, and in how many sub-sequences of equal length.

    Attributes:
        calibration: the instrument and its region.
        positions: patterns altogether.
        subsequences: parts after each of which the policy decides anew.
    """

    calibration: Calibration
    positions: int
    subsequences: int

    def __post_init__(self) -> None:
        if self.subsequences < 1 or self.positions < self.subsequences or self.positions % self.subsequences:
            raise InvalidInputError(
                f"The number of positions must be a multiple of the number of sub-sequences, not {self.positions} "
                f"in {self.subsequences}."
            )

    @property
    def part(self) -> int:
        """Positions of a sub-sequence."""
        return self.positions // self.subsequences


@dataclasses.dataclass(frozen=True, eq=False)
class Move:
    """A sub-sequence that a policy asks for.

    Attributes:
        positions_A: shape (p, 2), float64, ``(y, x)`` from the region's top left corner.
        defocus_A: of all of them; None leaves it as it is.
    """

    positions_A: FloatArray
    defocus_A: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Observation:
    """What a policy may look at: the live image, None before the first sub-sequence, and the last positions (p, 2)."""

    image: Reconstruction | None
    positions_A: FloatArray | None


class PolicyRun(typing.Protocol):
    """A policy at work on one scan."""

    def decide(self, observation: Observation) -> Move | None:
        """The next sub-sequence, or None to stop."""
        ...


class Policy(typing.Protocol):
    """Chooses where the probe goes next, and at which defocus."""

    @property
    def name(self) -> str:
        """Name shown in menus."""
        ...

    def start(self, plan: PtychographyPlan) -> PolicyRun:
        """Begin a scan. Raises InvalidInputError if the policy cannot work with this plan."""
        ...


class StaticPolicy:
    """A sequence of positions that is fixed before the scan, cut into sub-sequences.

    Args:
        name: shown in menus.
        sequence: makes the positions (n, 2) from their number and the region in A.
        defocus_A: of the whole scan; None leaves it as it is.
    """

    def __init__(
        self,
        name: str,
        sequence: typing.Callable[[int, positions.Region], FloatArray],
        defocus_A: float | None = None,
    ) -> None:
        self.name = name
        self._sequence, self._defocus_A = sequence, defocus_A

    def start(self, plan: PtychographyPlan) -> PolicyRun:
        whole = self._sequence(plan.positions, plan.calibration.fov_A)
        return _ListRun([Move(part, self._defocus_A) for part in np.split(whole, plan.subsequences)])


class _ListRun:
    def __init__(self, moves: list[Move]) -> None:
        self._moves = iter(moves)

    def decide(self, observation: Observation) -> Move | None:
        return next(self._moves, None)


class TwoPassPolicy:
    """A sparse grid first, then the atoms that are found in its image.

    ``share`` of the sub-sequences, at least one, is spent on the grid. The papers' own second scan follows a dense
    first one of a 25th of the exposure; with one exposure for all patterns, as here, the grid takes its place.
    """

    name = "Two passes: sparse grid, then atoms"

    def __init__(self, share: float = 0.4, defocus_A: float | None = None) -> None:
        self._share, self._defocus_A = share, defocus_A

    def start(self, plan: PtychographyPlan) -> PolicyRun:
        if plan.subsequences < 2:
            raise InvalidInputError(f"Two passes need 2 sub-sequences or more, not {plan.subsequences}.")
        first = min(max(1, round(self._share * plan.subsequences)), plan.subsequences - 1)
        return _TwoPassRun(plan, first, self._defocus_A)


class _TwoPassRun:
    def __init__(self, plan: PtychographyPlan, first: int, defocus_A: float | None) -> None:
        grid = positions.sparse_grid(first * plan.part, plan.calibration.fov_A)
        self._moves = [Move(part, defocus_A) for part in np.split(grid, first)]
        self._plan, self._first, self._found = plan, first, False
        self._defocus_A = defocus_A

    def decide(self, observation: Observation) -> Move | None:
        if not self._moves and not self._found:
            if observation.image is None:
                raise InvalidInputError("The second pass needs the image of the first one.")
            left = self._plan.subsequences - self._first
            atoms = positions.found_atoms(observation.image, left * self._plan.part)
            # Every sub-sequence spreads over all atoms.
            self._moves, self._found = [Move(atoms[k::left], self._defocus_A) for k in range(left)], True
        return self._moves.pop(0) if self._moves else None


class StoppingPolicy:
    """Another policy that ends the scan once the live image has settled: the dose that is left is not spent.

    Args:
        inner: chooses the positions.
        similarity: SSIM of two successive live images from which on the scan ends.
        pixel_A: sampling of that comparison.
    """

    def __init__(self, inner: Policy, similarity: float = 0.95, pixel_A: float = STOPPING_PIXEL_A) -> None:
        if not 0 < similarity < 1:
            raise InvalidInputError(f"The similarity at which a scan stops must lie in (0, 1), not {similarity}.")
        self.name = f"{inner.name}, stopping at {similarity:g}"
        self._inner, self._similarity, self._pixel_A = inner, similarity, pixel_A

    def start(self, plan: PtychographyPlan) -> PolicyRun:
        return _StoppingRun(self._inner.start(plan), self._similarity, self._pixel_A)


class _StoppingRun:
    def __init__(self, inner: PolicyRun, similarity: float, pixel_A: float) -> None:
        self._inner, self._similarity, self._pixel_A = inner, similarity, pixel_A
        self._before: metrics.Image | None = None

    def decide(self, observation: Observation) -> Move | None:
        if observation.image is not None:
            now = observation.image.phase(self._pixel_A)
            settled = self._before is not None and metrics.phase_ssim(self._before, now) >= self._similarity
            self._before = now
            if settled:
                return None
        return self._inner.decide(observation)


class OnnxPolicy:
    """A learned policy; coordinates in models map the region to [-1, 1].

    Its first sub-sequence is the model's answer to zeros. Where it observes a ``code``, the encoder compresses the live
    image first; the policy's card names it in ``training["encoder"]``.
    """

    def __init__(self, model: LoadedModel, encoder: LoadedModel | None = None) -> None:
        if model.card.kind != "ptychography_policy":
            raise ModelError(f"{model.card.name}: expected a ptychography_policy, found a {model.card.kind}.")
        self.model, self.encoder, self.name = model, encoder, model.card.name
        self.part = int(model.card.probes_per_segment or 0)
        if "code" in model.input_names:
            if encoder is None:
                raise ModelError(f"{self.name} needs the encoder that its card names.")
            if encoder.card.kind != "ptychography_encoder":
                raise ModelError(f"{encoder.card.name}: expected an encoder, found a {encoder.card.kind}.")

    @classmethod
    def load(cls, library: ModelLibrary, source: str) -> OnnxPolicy:
        """A policy of the library with its encoder, or one in a file with the encoder beside it. Raises ModelError."""
        model = library.load(source, "ptychography_policy")
        encoder = None
        if "code" in model.input_names:
            around = ModelLibrary([model.path.parent, *library.folders], library.shipped)
            encoder = around.load(str(model.card.training.get("encoder", "")), "ptychography_encoder")
        return cls(model, encoder)

    def start(self, plan: PtychographyPlan) -> PolicyRun:
        if plan.part != self.part:
            raise InvalidInputError(
                f"The policy {self.name} was trained for {self.part} positions a sub-sequence, not {plan.part}; "
                f"take {self.part * plan.subsequences} positions in {plan.subsequences} sub-sequences."
            )
        return _OnnxRun(self, plan)


class _OnnxRun:
    def __init__(self, policy: OnnxPolicy, plan: PtychographyPlan) -> None:
        self._policy, self._plan, self._left = policy, plan, plan.subsequences
        shapes = policy.model.input_shapes
        self._inputs: dict[str, FloatInput] = {
            name: np.zeros([int(n or 1) for n in shape], np.float32) for name, shape in shapes.items()
        }
        if "dose" in self._inputs:
            calibration = plan.calibration
            if calibration.electrons is None:
                raise InvalidInputError(f"{policy.name} needs the beam current, to know the planned dose.")
            dose = metrics.dose_e_per_A2(plan.positions, calibration.electrons, calibration.fov_A)
            self._inputs["dose"] = np.full((1, 1), math.log10(dose), np.float32)

    def decide(self, observation: Observation) -> Move | None:
        if self._left == 0:
            return None
        self._left -= 1
        fov = np.asarray(self._plan.calibration.fov_A)
        if observation.image is not None and observation.positions_A is not None:
            last = observation.positions_A / fov * 2 - 1
            self._inputs["positions"] = last[None].astype(np.float32)
            if self._policy.encoder is not None:
                self._inputs["code"] = self._code(observation.image)
        answer = self._policy.model.run(**self._inputs)
        if "state_out" in answer:
            self._inputs["state"] = answer["state_out"]
        places = np.asarray(answer["next_positions"][0], dtype=np.float64)
        if not np.isfinite(places).all():
            raise ModelError(f"{self._policy.name} answered with positions that are not finite.")
        defocus = float(answer["defocus_A"].ravel()[0]) if "defocus_A" in answer else None
        return Move(np.clip((places + 1) / 2, 0, 1) * fov, defocus)

    def _code(self, image: Reconstruction) -> FloatInput:
        encoder = self._policy.encoder
        if encoder is None:
            raise ModelError(f"{self._policy.name} needs the encoder that its card names.")
        shape = encoder.input_shapes["potential"]
        size = (int(shape[2] or 0), int(shape[3] or 0))
        phase = image_at(image.potential.real, image.grid, image.fov_A, size)
        return encoder.run(potential=phase[None, None])["code"]
