"""From the operator's choices to a ptychographic scan that is ready to run; nothing here moves the beam."""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np
from nion.instrumentation import camera_base, scan_base

from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import ImageArray
from adaptive_core.ptychography import episode, reconstruction
from adaptive_core.ptychography.object_grid import object_grid
from adaptive_core.ptychography.policy import Policy, PtychographyPlan
from adaptive_core.ptychography.scan_data import ScanData
from nionswift_plugin.adaptive_scan.beam import BeamSettings
from nionswift_plugin.adaptive_scan.diffraction_scanner import PatternSettings, SwiftDiffractionScanner
from nionswift_plugin.adaptive_scan.preparation import Place
from nionswift_plugin.adaptive_scan.ptychography_settings import PtychographyChoices
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion

_LARGEST_PATTERNS_BYTES = 4e9
_LARGEST_OBJECT_PX = 4096
_LARGEST_IMAGE_PX = 512
"""Images are interpolated for display whenever they change; a finer one of a large region takes too long."""

LIVE = dataclasses.replace(reconstruction.LIVE, absorption=True)
FINAL = dataclasses.replace(reconstruction.FINAL, absorption=True)


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedPtychography:
    """A ptychographic scan that has been checked against the devices.

    Attributes:
        choices: what the operator chose.
        scan, camera: the devices as Swift knows them.
        scanner: both, set up; it serves one run.
        policy: chooses the positions.
        plan: how many, in which region.
        truth: phase (height, width) of the region, as the images that are shown; None where it is not known.
    """

    choices: PtychographyChoices
    scan: scan_base.ScanHardwareSource
    camera: camera_base.CameraHardwareSource
    scanner: SwiftDiffractionScanner
    policy: Policy
    plan: PtychographyPlan
    truth: ImageArray | None = None

    @property
    def image_pixel_A(self) -> float:
        """Pixel of the images that are shown: half a sample of the reconstruction, so that they look smooth."""
        finest = max(self.plan.calibration.fov_A) / _LARGEST_IMAGE_PX
        return max(object_grid(self.plan.calibration).pixel_A / 2, finest)

    @property
    def exposures_s(self) -> float:
        """Exposure of all patterns."""
        return self.plan.positions * self.scanner.setup.exposure_us * 1e-6

    @property
    def dose_e_per_A2(self) -> float | None:
        """That of all patterns; None when the beam current is unknown."""
        return episode.predicted_dose_e_per_A2(self.plan)

    def episode(self) -> episode.Episode:
        """The run."""
        return episode.Episode(self.scanner, self.policy, self.plan, LIVE)

    def final(self, data: ScanData) -> reconstruction.Reconstruction:
        """The image that is kept; takes some milliseconds a pattern."""
        return reconstruction.final(data, settings=FINAL)


def prepare_ptychography(
    choices: PtychographyChoices,
    scan: scan_base.ScanHardwareSource,
    camera: camera_base.CameraHardwareSource,
    place: Place,
    beam: BeamSettings,
    policy: Policy,
) -> PreparedPtychography:
    """Check everything that can be checked before the beam moves.

    Raises InvalidInputError saying what does not fit together.
    """
    region = ScanRegion.rectangle(place.parameters, place.center, place.fractional_size, place.rotation_rad)
    scanner = SwiftDiffractionScanner(
        scan, camera, region, _pattern_settings(choices, beam), parameters=place.parameters
    )
    plan = episode.make_plan(scanner, choices.positions, choices.subsequences)
    if choices.defocus_nm is not None and not scanner.abilities.can_defocus:
        raise InvalidInputError("The instrument has no control of the defocus (C10); leave the defocus empty.")
    _check_size(plan)
    policy.start(plan)
    return PreparedPtychography(choices, scan, camera, scanner, policy, plan)


def _pattern_settings(choices: PtychographyChoices, beam: BeamSettings) -> PatternSettings:
    own = {field.name for field in dataclasses.fields(PatternSettings)} - {"defocus_nm", "beam"}
    chosen: dict[str, typing.Any] = {name: value for name, value in dataclasses.asdict(choices).items() if name in own}
    return PatternSettings(**chosen, beam=beam)


def _check_size(plan: PtychographyPlan) -> None:
    calibration = plan.calibration
    size = 4.0 * plan.positions * calibration.detector_px**2
    if size > _LARGEST_PATTERNS_BYTES:
        raise InvalidInputError(
            f"{plan.positions} patterns of {calibration.detector_px} x {calibration.detector_px} px need "
            f"{size / 1e9:.3g} GB of memory, {_LARGEST_PATTERNS_BYTES / 1e9:g} GB is the limit; take fewer positions."
        )
    shape = object_grid(calibration).shape
    if max(shape) > _LARGEST_OBJECT_PX:
        height, width = (side / 10 for side in calibration.fov_A)
        raise InvalidInputError(
            f"A region of {height:.3g} x {width:.3g} nm would be reconstructed on {shape[0]} x {shape[1]} px; "
            f"at most {_LARGEST_OBJECT_PX} px a side are possible. Choose a smaller field of view or a rectangle."
        )


def spacing_A(plan: PtychographyPlan) -> float:
    """Mean distance of the positions, were they on an even grid."""
    return math.sqrt(math.prod(plan.calibration.fov_A) / plan.positions)


def probe_diameter_A(plan: PtychographyPlan, defocus_nm: float | None) -> float:
    """Of the probe: that of its Airy disk, or of the aperture's shadow where it is defocused further than that."""
    optics = plan.calibration.optics
    defocus_A = optics.defocus_A if defocus_nm is None else 10 * defocus_nm
    angle = optics.convergence_mrad * 1e-3
    return float(np.hypot(1.22 * optics.wavelength_A / angle, 2 * defocus_A * angle))
