"""Any scan device and camera of Nion Swift as a :class:`adaptive_core.ports.DiffractionScanner`.

The probe is put on one position after another, as every scan device of Swift allows, and the camera takes a frame of
its own at each: one that begins after the probe has arrived. Where the operator wants it, rasters among the positions
are taken by synchronized acquisition instead. In between the beam is blanked, or waits outside the region; a device
whose blanker follows the exposures says so by ``supports_beam_gate``. Frames become patterns of electrons: the dark
level is subtracted, the square around the bright-field disk is cut out and binned.
"""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import math
import threading
import time
import typing

import numpy as np
import numpy.typing as npt
from nion.instrumentation import camera_base, scan_base, stem_controller
from nion.utils import Geometry

from adaptive_core.errors import (
    AdaptiveScanError,
    DeviceDataError,
    DeviceError,
    DeviceTimeoutError,
    InvalidInputError,
    ScanCancelledError,
)
from adaptive_core.ports import DiffractionAbilities, DiffractionMeasurement, DiffractionSetup
from adaptive_core.ptychography.pattern_frames import DarkLevel, PatternCut, bright_field_disk, largest_binning
from adaptive_core.ptychography.scan_data import check_positions
from adaptive_core.scan_path import FloatArray, Point
from adaptive_core.simulation.ptychography_probe import Optics
from nionswift_plugin.adaptive_scan.alignment_devices import SwiftDiskCamera
from nionswift_plugin.adaptive_scan.beam import Beam, beam_current_pa, make_beam
from nionswift_plugin.adaptive_scan.defocus_control import DefocusControl
from nionswift_plugin.adaptive_scan.pattern_settings import PatternSettings
from nionswift_plugin.adaptive_scan.putting_back import putting_back
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion, context_parameters
from nionswift_plugin.adaptive_scan.swift_scanner import taking
from nionswift_plugin.adaptive_scan.synchronized_raster import Raster, SynchronizedRasters, find_rasters

RealArray = npt.NDArray[np.float32]

_STOP_VIEW_S = 5.0
"""How long a live view may take to stop."""
_DARK_FRAMES = 8
_LOST = 0.05
"""Part of the electrons of the pattern before it, below which a pattern shows that the beam is lost."""


class SwiftDiffractionScanner:
    """Takes diffraction patterns in a region with a scan device and a camera of Swift; one scanner serves one run.

    Args:
        scan: the scan device as Swift knows it.
        camera: the camera as Swift knows it.
        region: where the positions lie; its px are the unit of positions.
        settings: see :class:`PatternSettings`.
        parameters: context of the region; Swift's present scan settings by default.
        restart_view: whether a live view of the scan that had to be stopped goes on afterwards.

    Attributes:
        abilities, setup: see :class:`adaptive_core.ports.DiffractionScanner`.
        region: as given.
        unfinished: what the last :meth:`measure` had taken when it failed or was cancelled; None if nothing.

    Raises:
        InvalidInputError: if energy, convergence angle or the camera's calibration are unknown or do not fit together;
            nothing has moved then.
    """

    def __init__(
        self,
        scan: scan_base.ScanHardwareSource,
        camera: camera_base.CameraHardwareSource,
        region: ScanRegion,
        settings: PatternSettings | None = None,
        *,
        parameters: scan_base.ScanFrameParameters | None = None,
        restart_view: bool = False,
    ) -> None:
        self._settings = settings = settings or PatternSettings()
        self._scan = scan
        self._stem = scan.stem_controller
        self._context = context_parameters(parameters or scan.get_current_frame_parameters())
        self._restart_view = restart_view
        self.region = region
        self.unfinished: DiffractionMeasurement | None = None
        self._check_context()
        self._defocus = DefocusControl(self._stem, settings.defocus_control, self.device_id)
        optics = settings.optics(self._stem)
        self._camera = SwiftDiskCamera(camera)
        self._camera.parameters.integration_count = 1
        if settings.exposure_ms is not None:
            self._camera.set_exposure(settings.exposure_ms)
        self._cut, mrad_per_px = self._pattern_cut(
            optics if settings.largest_defocus_nm is None else optics.at_defocus(10 * settings.largest_defocus_nm)
        )
        self._counts_per_electron = settings.gain(camera)
        self._stopped = threading.Event()
        self._rasters = SynchronizedRasters(scan, self._camera, self._stopped)
        self._gates = bool(getattr(scan.scan_device, "supports_beam_gate", False))
        self.abilities = DiffractionAbilities(self._defocus.exists, self._gates or self._make_beam().blanks)
        self.setup = DiffractionSetup(
            size_px=region.size_px,
            pixel_size_nm=region.pixel_size_nm,
            exposure_us=1e3 * self._camera.parameters.exposure_ms,
            detector_px=self._cut.detector_px,
            mrad_per_px=mrad_per_px,
            energy_kev=optics.energy_kev,
            convergence_mrad=optics.convergence_mrad,
            defocus_nm=optics.defocus_A / 10,
            cs_mm=optics.cs_mm,
            beam_current_pa=beam_current_pa(self._stem, settings.beam),
        )
        self._beam: Beam | None = None
        self._dark = DarkLevel()
        self._centre_px: Point | None = None
        self._electrons = 0.0
        self._exposures = 0
        self._exposed_us = 0.0

    @property
    def context(self) -> scan_base.ScanFrameParameters:
        """A copy of the context's frame parameters."""
        return context_parameters(self._context)

    def check(self, positions: FloatArray) -> None:
        """Raise InvalidInputError for positions (n, 2), px, outside the region; never moves the beam."""
        check_positions(positions, self.setup.size_px, "px")

    @contextlib.contextmanager
    def session(self) -> collections.abc.Iterator[None]:
        """Take scan device and camera; everything is put back on every way out.

        Live views are stopped; the camera's goes on afterwards. Probe position, scan context and defocus are put back.
        The beam stays blanked, or parked outside the region, unless the scan's live view goes on. Where it can be
        blanked, frames without a beam tell the camera's dark level.

        Raises:
            DeviceError: the devices are in use, or do not answer.
        """
        scan, stem = self._scan, self._stem
        camera_id = self._camera.source.hardware_source_id
        if scan.is_recording:
            raise DeviceError(f"{self.device_id} is recording; an adaptive scan must wait until it has finished.")
        with contextlib.ExitStack() as stack:
            stack.enter_context(taking(self.device_id))
            stack.enter_context(taking(camera_id))
            beam = self._make_beam()
            position, was_playing = scan.probe_position, self._stop_view()
            if was_playing and self._restart_view:
                stack.push(putting_back(self.device_id, "the live view", scan.start_playing))
                stack.push(putting_back(self.device_id, "the beam", beam.put_back))
            if beam.blanks:
                back = functools.partial(setattr, scan, "probe_position", position)
                stack.push(putting_back(self.device_id, "the probe position", back))
            stack.push(putting_back(self.device_id, "the scan context", self._context_put_back()))
            stack.enter_context(self._camera.session())
            _show_context(stem, self._context)
            stack.push(putting_back(self.device_id, "the beam", beam.rest))
            beam.rest()
            if self._gates:
                stack.push(putting_back(self.device_id, "the beam's gate", functools.partial(self._set_gate, False)))
                self._set_gate(True)
            stack.enter_context(self._defocus.session())
            if beam.blanks:
                self._dark = DarkLevel.of(np.stack([self._grab() for _ in range(_DARK_FRAMES)]))
            self._beam = beam
            try:
                yield
            finally:
                self._exposed_us = self.beam_on_us
                self._beam = None

    @property
    def beam_on_us(self) -> float:
        """Time for which the specimen was exposed so far (us), see :class:`adaptive_core.ports.DiffractionScanner`."""
        if self._beam is None:
            return self._exposed_us
        # A simulator may be faster than the beam that it simulates.
        exposures_us = self._exposures * self.setup.exposure_us
        return exposures_us if self._gates else max(exposures_us, self._beam.exposed_us)

    def measure(self, positions: FloatArray, defocus_nm: float | None = None) -> DiffractionMeasurement:
        """Take a pattern at each position; see :class:`adaptive_core.ports.DiffractionScanner`.

        Raises:
            DeviceTimeoutError: the camera gave no frame in time.
            DeviceDataError: a pattern without counts, a saturated one, one of another shape, or a bright-field disk
                that is too far from the middle of the camera. Patterns taken before are in :attr:`unfinished`.
            DeviceError: a device failed in another way.
            ScanCancelledError: :meth:`cancel` was called.
        """
        if self._beam is None:
            raise DeviceError("A scanner measures only inside its session.")
        self.check(positions)
        self.unfinished = None
        frames: list[RealArray] = []
        try:
            if defocus_nm is not None:
                self._defocus.set(defocus_nm, self.setup.defocus_nm)
            for frame in self._frames(self._beam, positions):
                frames.append(self._signal(frame))
        except Exception as error:  # vendors raise what they like
            if frames:
                self.unfinished = self._measurement(frames, positions)
            if isinstance(error, ScanCancelledError):
                raise ScanCancelledError(f"The scan on {self.device_id} was cancelled.") from error
            if isinstance(error, AdaptiveScanError):
                raise
            raise DeviceError(f"{self.device_id} or {self.camera_id} failed: {error!r}") from error
        return self._measurement(frames, positions)

    def cancel(self) -> None:
        """Stop this scanner for good, from any thread: a measurement and later ones raise ScanCancelledError."""
        self._stopped.set()
        self._camera.cancel()

    @property
    def device_id(self) -> str:
        """Swift's identifier of the scan device."""
        return self._scan.scan_device.scan_device_id

    @property
    def camera_id(self) -> str:
        """Swift's identifier of the camera."""
        return self._camera.source.hardware_source_id

    # measuring

    def _frames(self, beam: Beam, positions: FloatArray) -> collections.abc.Iterator[RealArray]:
        """Frames at positions in px of the region: rasters at once where that is wanted, and all others one by one."""
        fractions, done = self.region.to_fractions(positions), 0
        for raster in find_rasters(positions) if self._settings.synchronized else ():
            for part in raster.sections(self._rasters.rows_at_once(raster.columns)):
                parameters = part.parameters(self.region, self._context)
                if parameters is None:
                    continue
                yield from self._single_frames(beam, fractions[done : part.first])
                yield from self._synchronized_frames(beam, part, parameters)
                done = part.stop
        yield from self._single_frames(beam, fractions[done:])

    def _synchronized_frames(
        self, beam: Beam, raster: Raster, parameters: scan_base.ScanFrameParameters
    ) -> collections.abc.Iterator[RealArray]:
        planned, before_us = raster.rows * raster.columns, beam.exposed_us
        self._exposures += planned
        try:
            for frame in self._rasters.grab(parameters, beam):
                self._check_view()
                yield frame
        except AdaptiveScanError:
            # Frames that were not read may have been exposed, as many as there was time for.
            possible = math.ceil((beam.exposed_us - before_us) / self.setup.exposure_us)
            self._exposures -= planned - min(planned, possible)
            raise

    def _single_frames(self, beam: Beam, fractions: FloatArray) -> collections.abc.Iterator[RealArray]:
        """Frames at positions in fractions of the context."""
        for y, x in fractions.tolist():
            self._put_probe(Geometry.FloatPoint(y=y, x=x))
            time.sleep(self._settings.settle_ms * 1e-3)
            self._exposures += 1
            beam.expose()
            try:
                frame = self._grab()
            finally:
                beam.rest()
            self._check_view()
            yield frame

    def _check_view(self) -> None:
        if self._scan.is_playing:
            raise DeviceError(f"The live view of {self.device_id} was started during the adaptive scan.")

    def _signal(self, frame: RealArray) -> RealArray:
        """A frame in electrons, checked."""
        saturation = self._settings.saturation
        if saturation is not None and (frame >= saturation).any():
            raise DeviceDataError(
                f"{int((frame >= saturation).sum())} px of a pattern reach the limit of {self.camera_id}, "
                f"{saturation:g} counts; shorten the exposure."
            )
        signal = self._dark.subtracted(frame)
        if not signal.any():
            raise DeviceDataError(f"A pattern of {self.camera_id} has no counts; is the beam on the camera?")
        signal /= np.float32(self._counts_per_electron)
        electrons = float(signal.sum(dtype=np.float64))
        if electrons < _LOST * self._electrons:
            raise DeviceDataError(
                f"A pattern of {self.camera_id} has {electrons:.3g} electrons, one before it had "
                f"{self._electrons:.3g}; is the beam still on the camera?"
            )
        self._electrons = electrons
        if self._centre_px is None:
            # Whether the disk is where it can be cut out shows before the rest of the dose is spent.
            self._cut.patterns(signal[None], bright_field_disk(signal).centre_px)
        return signal

    def _put_probe(self, position: Geometry.FloatPoint) -> None:
        """Put the beam on a fraction of the context.

        Swift tells its devices by an event, which swallows their errors and is not fired for a position that is the
        last one, perhaps of another context; so the device is told once more.
        """
        self._scan.probe_position = position
        device = self._scan.scan_device
        if hasattr(device, "set_scan_context_probe_position"):
            device.set_scan_context_probe_position(self._stem.scan_context, position)
        else:
            device.set_idle_position_by_percentage(position.x, position.y)

    def _grab(self) -> RealArray:
        frame, _ = self._camera.grab()
        if frame.shape != self._camera.shape:
            raise DeviceDataError(f"{self.camera_id} gave a frame of {frame.shape} px, not {self._camera.shape} px.")
        return frame

    def _measurement(self, frames: list[RealArray], positions: FloatArray) -> DiffractionMeasurement:
        stack = np.stack(frames)
        if self._centre_px is None:
            self._centre_px = bright_field_disk(stack.mean(0)).centre_px
        patterns, beam_px = self._cut.patterns(stack, self._centre_px)
        return DiffractionMeasurement(patterns, positions[: len(frames)], beam_px)

    def _set_gate(self, on: bool) -> None:
        self._scan.scan_device.set_beam_gate(on)  # type: ignore[attr-defined]

    # preparing

    def _pattern_cut(self, optics: Optics) -> tuple[PatternCut, float]:
        """Set the camera's binning, cut patterns from its frames; how, and the mrad of a pattern px."""
        camera = self._camera
        camera.parameters.binning = 1
        single = self._settings.mrad_per_px or camera.mrad_per_px
        if single is None:
            raise InvalidInputError(f"{camera.source.display_name} is not calibrated in mrad; give the mrad of a px.")
        wished = largest_binning(optics, single)
        camera.parameters.binning = max((n for n in camera.source.binning_values if n <= wished), default=1)
        by_camera = camera.parameters.binning
        cut = PatternCut.fitting(optics, single * by_camera, camera.shape, wished // by_camera)
        return cut, single * by_camera * cut.binning

    def _check_context(self) -> None:
        size = self._context.pixel_size
        if (size.height, size.width) != self.region.context_px or self._context.fov_nm != self.region.fov_nm:
            raise InvalidInputError("The region belongs to another field of view than the scan.")

    def _make_beam(self) -> Beam:
        return make_beam(self._scan, self._settings.beam, self.region.waiting_position())

    def _stop_view(self) -> bool:
        """Stop the live view; whether there was one."""
        was_playing = self._scan.is_playing
        if was_playing:
            self._scan.abort_playing(sync_timeout=_STOP_VIEW_S)
            if self._scan.is_playing:
                raise DeviceTimeoutError(f"The live view of {self.device_id} did not stop within {_STOP_VIEW_S} s.")
        return was_playing

    def _context_put_back(self) -> typing.Callable[[], None]:
        """What shows the present scan context again."""
        now = self._stem.scan_context
        size, center, fov, rotation = now.size, now.center_nm, now.fov_nm, now.rotation_rad
        return lambda: self._stem._update_scan_context(size, center, fov, rotation)


def _show_context(stem: stem_controller.STEMController, context: scan_base.ScanFrameParameters) -> None:
    """Let Swift's probe positions be fractions of this context, whichever scan was the last."""
    stem._update_scan_context(context.pixel_size, context.center_nm, context.fov_nm, context.rotation_rad)
