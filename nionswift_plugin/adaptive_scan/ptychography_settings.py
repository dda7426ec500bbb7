"""What the operator chose for adaptive ptychography, kept over restarts."""

from __future__ import annotations

import dataclasses
import math
import pathlib

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.settings import RegionKind
from nionswift_plugin.adaptive_scan.settings_store import SectionStore


@dataclasses.dataclass(frozen=True)
class PtychographyChoices:
    """The panel's choices. None leaves a choice to Swift, to the instrument or to the default.

    Attributes:
        device: Swift's identifier of the scan device.
        camera: Swift's identifier of the camera.
        policy: as :func:`adaptive_core.ptychography.catalogue.policy` understands it.
        region: where to scan.
        positions: number of patterns.
        subsequences: parts after each of which the policy decides anew.
        stop_similarity: SSIM of two successive live images from which on the scan ends.
        defocus_nm: underfocus, where the policy does not choose it.
        exposure_ms: of a pattern.
        energy_kev: beam energy.
        convergence_mrad: semi-angle of the aperture.
        mrad_per_px: of an unbinned pixel of the camera.
        counts_per_electron: of the camera.
        saturation: counts at which a pixel of a frame saturates.
        cs_mm: third-order spherical aberration.
        settle_ms: time from a move of the probe until a frame may begin.
        synchronized: takes rasters among the positions in synchronized scans, which the camera clocks.
        seed: of random positions.
    """

    device: str | None = None
    camera: str | None = None
    policy: str | None = None
    region: RegionKind = RegionKind.CONTEXT
    positions: int = 250
    subsequences: int = 5
    stop_similarity: float | None = None
    defocus_nm: float | None = None
    exposure_ms: float | None = None
    energy_kev: float | None = None
    convergence_mrad: float | None = None
    mrad_per_px: float | None = None
    counts_per_electron: float | None = None
    saturation: float | None = None
    cs_mm: float = 0.0
    settle_ms: float = 1.0
    synchronized: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InvalidInputError for a number that is no choice."""
        positive = ("positions", "subsequences", "exposure_ms", "energy_kev", "convergence_mrad")
        for name in (*positive, "mrad_per_px", "counts_per_electron", "saturation"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"{name} must be a positive number, not {value}.")
        if not (math.isfinite(self.settle_ms) and self.settle_ms >= 0):
            raise InvalidInputError(f"settle_ms must be a number that is not negative, not {self.settle_ms}.")
        if self.stop_similarity is not None and not 0 < self.stop_similarity < 1:
            raise InvalidInputError(f"stop_similarity must lie in (0, 1), not {self.stop_similarity}.")


class PtychographyStore(SectionStore[PtychographyChoices]):
    """Keeps the choices over restarts."""

    def __init__(self, folder: pathlib.Path | None) -> None:
        super().__init__(folder, "ptychography", PtychographyChoices())
