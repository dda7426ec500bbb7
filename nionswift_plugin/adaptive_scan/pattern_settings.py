"""How diffraction patterns are taken, and what the instrument tells where the operator does not."""

from __future__ import annotations

import dataclasses
import math

from nion.instrumentation import camera_base, stem_controller

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.ptychography_probe import Optics
from nionswift_plugin.adaptive_scan.alignment_devices import control_value
from nionswift_plugin.adaptive_scan.beam import BeamSettings


@dataclasses.dataclass(frozen=True)
class PatternSettings:
    """How patterns are taken; None takes what Swift or the instrument says.

    Attributes:
        exposure_ms: of a pattern; by default that of Swift's camera settings.
        energy_kev: beam energy; by default that of the control EHT (V).
        convergence_mrad: semi-angle; by default that of the control ConvergenceAngle (rad).
        defocus_nm: present underfocus; by default minus the control of the defocus, or 0 without one.
        largest_defocus_nm: largest underfocus at which patterns will be taken, which must fit their real-space window;
            by default the present one.
        cs_mm: third-order spherical aberration.
        mrad_per_px: of an unbinned camera px; by default the camera's calibration.
        counts_per_electron: by default the camera's calibration, or 1.
        saturation: counts at which a px of a frame saturates; None is not checked.
        settle_ms: time from a move of the probe until a frame may begin.
        synchronized: takes rasters among the positions in synchronized scans, which the camera clocks.
        defocus_control: control of the defocus in m, overfocus positive; None never sets it.
        beam: how the beam is blanked, and where its current is found.
    """

    exposure_ms: float | None = None
    energy_kev: float | None = None
    convergence_mrad: float | None = None
    defocus_nm: float | None = None
    largest_defocus_nm: float | None = None
    cs_mm: float = 0.0
    mrad_per_px: float | None = None
    counts_per_electron: float | None = None
    saturation: float | None = None
    settle_ms: float = 1.0
    synchronized: bool = False
    defocus_control: str | None = "C10"
    beam: BeamSettings = dataclasses.field(default_factory=BeamSettings)

    def __post_init__(self) -> None:
        positive = ("exposure_ms", "energy_kev", "convergence_mrad", "mrad_per_px", "counts_per_electron", "saturation")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"The setting {name} must be positive, not {value}.")
        if not (math.isfinite(self.settle_ms) and self.settle_ms >= 0):
            raise InvalidInputError(f"The settling time must not be negative, not {self.settle_ms} ms.")

    def optics(self, stem: stem_controller.STEMController) -> Optics:
        """The illumination now. Raises InvalidInputError if energy or convergence angle are unknown."""
        control = control_value(stem, self.defocus_control or "")
        return Optics(
            _needed("beam energy", self.energy_kev, stem, "EHT", 1e-3),
            _needed("convergence semi-angle", self.convergence_mrad, stem, "ConvergenceAngle", 1e3),
            10 * (self.defocus_nm if self.defocus_nm is not None else -1e9 * (control or 0.0)),
            self.cs_mm,
        )

    def gain(self, camera: camera_base.CameraHardwareSource) -> float:
        """Counts of one electron: the operator's, the camera's, or 1."""
        get = getattr(camera, "get_counts_per_electron", None)
        return float(self.counts_per_electron or (get() if get is not None else None) or 1.0)


def _needed(what: str, value: float | None, stem: stem_controller.STEMController, control: str, scale: float) -> float:
    """The operator's value, or else that of a control. Raises InvalidInputError."""
    if value is not None:
        return value
    found = control_value(stem, control)
    if found is None or found <= 0:
        raise InvalidInputError(f"The {what} is unknown: the instrument has no control {control}; give it.")
    return found * scale
