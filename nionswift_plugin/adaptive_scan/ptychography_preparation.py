"""From the operator's choices to a ptychographic scan that is ready to run; nothing here moves the beam."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing

from nion.instrumentation import camera_base, scan_base
from nion.utils import Registry

from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import ImageArray, SimulatedSpecimen
from adaptive_core.ptychography import episode, reconstruction
from adaptive_core.ptychography.object_grid import object_grid, transfer
from adaptive_core.ptychography.policy import Observation, Policy, PtychographyPlan
from adaptive_core.ptychography.scan_data import ScanData
from nionswift_plugin.adaptive_scan.beam import BeamSettings
from nionswift_plugin.adaptive_scan.diffraction_scanner import SwiftDiffractionScanner
from nionswift_plugin.adaptive_scan.pattern_settings import PatternSettings
from nionswift_plugin.adaptive_scan.preparation import Place
from nionswift_plugin.adaptive_scan.ptychography_settings import PtychographyChoices
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion
from nionswift_plugin.adaptive_scan.settings import SIMULATOR_ID

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
        defocus_nm: of the first sub-sequence.
    """

    choices: PtychographyChoices
    scan: scan_base.ScanHardwareSource
    camera: camera_base.CameraHardwareSource
    scanner: SwiftDiffractionScanner
    policy: Policy
    plan: PtychographyPlan
    defocus_nm: float

    @property
    def image_pixel_A(self) -> float:
        """Pixel of the images that are shown: half a sample of the reconstruction, so that they look smooth."""
        finest = max(self.plan.calibration.fov_A) / _LARGEST_IMAGE_PX
        return max(object_grid(self.plan.calibration).pixel_A / 2, finest)

    @property
    def exposures_s(self) -> float:
        """Exposure of all patterns."""
        return self.plan.positions * self.scanner.setup.exposure_us * 1e-6

    def dose_e_per_A2(self, exposed_share: float = 1.0) -> float | None:
        """That of all patterns; None when the beam current is unknown.

        ``exposed_share`` is the time for which the beam is on over the exposures.
        """
        dose = episode.predicted_dose_e_per_A2(self.plan)
        return None if dose is None else dose * exposed_share

    def episode(self) -> episode.Episode:
        """The run."""
        return episode.Episode(self.scanner, self.policy, self.plan, LIVE)

    def known_phase(self, shape: tuple[int, int]) -> ImageArray | None:
        """The true phase of the region on (height, width) px, with the detail that an image can show.

        None where it is not known; it is on the simulated instrument, for a specimen made of atoms.
        """
        specimen = Registry.get_component("simulated_specimen")
        if specimen is None or self.scan.hardware_source_id != SIMULATOR_ID:
            return None
        region = self.scanner.region
        parameters = self.scanner.context
        parameters.subscan_pixel_size = shape
        parameters.subscan_fractional_size = region.fractional_size
        parameters.subscan_fractional_center = region.center
        parameters.subscan_rotation = region.rotation_rad
        visible = functools.partial(transfer, self.plan.calibration)
        return typing.cast(SimulatedSpecimen, specimen).phase(parameters, visible)

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
    own = {field.name for field in dataclasses.fields(PatternSettings)} & dataclasses.asdict(choices).keys()
    patterns = PatternSettings(**{name: getattr(choices, name) for name in own - {"defocus_nm"}}, beam=beam)

    def scanner_and_plan(largest_defocus_nm: float | None) -> tuple[SwiftDiffractionScanner, PtychographyPlan]:
        settings = dataclasses.replace(patterns, largest_defocus_nm=largest_defocus_nm)
        scanner = SwiftDiffractionScanner(scan, camera, region, settings, parameters=place.parameters)
        return scanner, episode.make_plan(scanner, choices.positions, choices.subsequences)

    # What the policy begins with shows whether it can begin, and at which defocus, whatever the present one is.
    scanner, plan = scanner_and_plan(0.0)
    first = policy.start(plan).decide(Observation(None, None))
    if first is None or first.defocus_A is None:
        scanner, plan = scanner_and_plan(None)
        defocus_nm = scanner.setup.defocus_nm
    else:
        defocus_nm = first.defocus_A / 10
        if not scanner.abilities.can_defocus:
            raise InvalidInputError(
                f"{policy.name} sets the defocus to {defocus_nm:.3g} nm, but the instrument has no control "
                f"{patterns.defocus_control}."
            )
        scanner, plan = scanner_and_plan(defocus_nm)
    _check_size(plan)
    return PreparedPtychography(choices, scan, camera, scanner, policy, plan, defocus_nm)


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


def probe_diameter_A(plan: PtychographyPlan, defocus_nm: float) -> float:
    """Of the probe: its Airy disk and the shadow of the aperture at this defocus, added as squares."""
    optics = plan.calibration.optics
    angle = optics.convergence_mrad * 1e-3
    return math.hypot(1.22 * optics.wavelength_A / angle, 20 * defocus_nm * angle)
