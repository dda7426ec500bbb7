"""The STEM controller of the simulated instrument, and what its devices read from whichever controller is in charge."""

from __future__ import annotations

import collections.abc
import re
import threading
import typing

from nion.device_kit import InstrumentDevice
from nion.instrumentation import stem_controller
from nion.utils import Event, Geometry

from adaptive_core.simulation.microscope import Beam
from adaptive_core.simulation.ptychography_probe import Optics
from adaptive_core.simulation.settings import InstrumentSettings

INSTRUMENT_ID = "adaptive_simulator_instrument"
SENSOR_PX = 512  # sides of the square camera

CONTROLS: dict[str, float] = {
    "EHT": 100e3,  # V
    "BeamCurrent": InstrumentSettings().beam_current_pa * 1e-12,  # A
    "C_Blank": 0.0,  # 1: blanked
    "C10": 0.0,  # defocus, m
    "ConvergenceAngle": 30e-3,  # semi-angle, rad
    "CameraLength": 0.1,  # m
    "ZLPoffset": 0.0,  # eV; Swift records it
}
"""The one-dimensional controls and what they start with, in SI units."""

CONTROLS_2D: dict[str, tuple[float, float]] = {
    "stage_position_m": (0.0, 0.0),  # positive values move the image down and right
    "beam_shift_m": (0.0, 0.0),  # of the probe on the specimen
    "DiffractionShift": (0.0, 0.0),  # rad, moves the disk on the camera
    "DetectorCentre": (0.0, 0.0),  # rad, of the annular detectors from the middle of the camera
}
"""The two-dimensional controls and what they start with, (y, x), in SI units; axes x and y, native axis "tv"."""


class _Axis(stem_controller.AxisDescription):
    def __init__(self, axis_id: str, axis_type: tuple[str, str], name: str) -> None:
        self._axis_id, self._axis_type, self._name = axis_id, axis_type, name

    @property
    def axis_id(self) -> str:
        return self._axis_id

    @property
    def axis_type(self) -> tuple[str, str]:
        return self._axis_type

    @property
    def display_name(self) -> str:
        return self._name


class AxisManager(InstrumentDevice.AxisManagerLike):
    """The instrument's axes; they all point the same way."""

    _axes = (
        _Axis("tv", ("x", "y"), "TV (x, y)"),
        _Axis("scan", ("u", "v"), "Scan (u, v)"),
        _Axis("stageaxis", ("sx", "sy"), "Stage (sx, sy)"),
    )

    @property
    def supported_axis_descriptions(self) -> collections.abc.Sequence[stem_controller.AxisDescription]:
        return self._axes

    def axis_transform_point(
        self,
        point: Geometry.FloatPoint,
        from_axis: stem_controller.AxisDescription,
        to_axis: stem_controller.AxisDescription,
    ) -> Geometry.FloatPoint:
        return point


class ValueManager(InstrumentDevice.ValueManagerLike):
    """The controls, by name; the parts of a two-dimensional one are ``name.x`` and ``name.y`` (or another axis').

    Attributes:
        changed_event: fired with the name of a control after it has changed.
    """

    def __init__(self) -> None:
        self.changed_event = Event.Event()
        self._values = dict(CONTROLS)
        self._values_2d = {name: Geometry.FloatPoint(y=y, x=x) for name, (y, x) in CONTROLS_2D.items()}
        self._lock = threading.RLock()

    @staticmethod
    def _part(name: str) -> tuple[str, str] | None:
        match = re.fullmatch(r"(.+)\.(x|y|u|v|sx|sy)", name)
        return (match[1], "x" if match[2] in ("x", "u", "sx") else "y") if match else None

    def get_value(self, name: str) -> float | None:
        if name in self._values:
            return self._values[name]
        part = self._part(name)
        if part and part[0] in self._values_2d:
            return float(getattr(self._values_2d[part[0]], part[1]))
        return None

    def set_value(self, name: str, value: float) -> bool:
        part = self._part(name)
        if name in self._values:
            self._change(name, self._values, float(value))
        elif part and part[0] in self._values_2d:
            with self._lock:
                old = self._values_2d[part[0]]
                new = Geometry.FloatPoint(y=value, x=old.x) if part[1] == "y" else Geometry.FloatPoint(y=old.y, x=value)
                self._change(part[0], self._values_2d, new)
        else:
            return False
        return True

    def inform_value(self, name: str, value: float) -> bool:
        return self.set_value(name, value)

    def get_value_2d(
        self,
        s: str,
        default_value: Geometry.FloatPoint | None = None,
        *,
        axis: stem_controller.AxisType | None = None,
    ) -> Geometry.FloatPoint:
        value = self._values_2d.get(s, default_value)
        if value is None:
            raise ValueError(f"There is no 2D control named '{s}'.")
        return value

    def set_value_2d(
        self,
        s: str,
        value: Geometry.FloatPoint,
        *,
        axis: stem_controller.AxisType | None = None,
    ) -> bool:
        if s not in self._values_2d:
            return False
        self._change(s, self._values_2d, Geometry.FloatPoint.make(value))
        return True

    def inform_control_2d(self, s: str, value: Geometry.FloatPoint, *, axis: stem_controller.AxisType) -> bool:
        return self.set_value_2d(s, value, axis=axis)

    def get_reference_setting_index(self, settings_control: str) -> int:
        raise ValueError(f"The control '{settings_control}' has no reference settings.")

    def _change(self, name: str, values: dict[str, typing.Any], value: typing.Any) -> None:
        if values[name] != value:
            values[name] = value
            self.changed_event.fire(name)


class Instrument(InstrumentDevice.Instrument):
    """The simulated instrument's STEM controller."""

    def __init__(self) -> None:
        self.values = ValueManager()
        super().__init__(INSTRUMENT_ID, self.values, AxisManager())
        self.priority = 10  # below any other instrument
        self._listener = self.values.changed_event.listen(self._control_changed)

    def close(self) -> None:
        self._listener.close()
        super().close()

    def _control_changed(self, name: str) -> None:
        self.property_changed_event.fire(name)

    def camera_sensor_dimensions(self, camera_type: str) -> tuple[int, int]:
        return SENSOR_PX, SENSOR_PX

    def camera_readout_area(self, camera_type: str) -> tuple[int, int, int, int]:
        return 0, 0, SENSOR_PX, SENSOR_PX


class Column:
    """The electron-optical column as the devices see it: the instrument's own controls, or another controller's.

    Beside another STEM controller its blanker, beam current and stage count, where it has them, because an operator
    sets those; the optics stay the instrument's own, since another column's defocus says nothing about this specimen.
    """

    def __init__(self, instrument: Instrument, controller: stem_controller.STEMController) -> None:
        self.instrument = instrument
        self.controller = controller

    def lend(self, name: str) -> None:
        """Give usim a two-dimensional control that it lacks, because operators look for it with the one in charge."""
        create, add = (getattr(self.controller, method, None) for method in ("create_2d_control", "add_control"))
        if create is not None and add is not None and not self.controller.TryGetVal(f"{name}.x")[0]:
            y, x = CONTROLS_2D[name]
            add(create(name, ("x", "y"), (x, y)))

    def _value(self, name: str, default: float) -> float:
        good, value = self.controller.TryGetVal(name)
        return float(value) if good and value is not None else default

    def point(self, name: str) -> tuple[float, float]:
        """A two-dimensional control (y, x) of the controller in charge, else the instrument's own."""
        own = self.instrument.values.get_value_2d(name, Geometry.FloatPoint())
        if self.controller is self.instrument:
            return own.y, own.x
        return self._value(f"{name}.y", own.y), self._value(f"{name}.x", own.x)

    def value(self, name: str) -> float:
        """A control of the controller in charge, else the instrument's own."""
        return self._value(name, self.instrument.GetVal(name))

    @property
    def optics(self) -> Optics:
        """The illumination now. Raises InvalidInputError for one that no microscope has."""
        return Optics(self.value("EHT") * 1e-3, self.value("ConvergenceAngle") * 1e3, -self.value("C10") * 1e10)

    def illuminate(self, optics: Optics) -> None:
        """Set beam energy, convergence angle and defocus, of the controller in charge too where it has them."""
        values = {"EHT": optics.energy_kev * 1e3, "ConvergenceAngle": optics.convergence_mrad * 1e-3}
        for name, value in {**values, "C10": -optics.defocus_A * 1e-10}.items():
            self.instrument.SetVal(name, value)
            if self.controller is not self.instrument and self.controller.TryGetVal(name)[0]:
                self.controller.SetVal(name, value)

    @property
    def beam(self) -> Beam:
        """The state of the beam now."""
        stage, shift = self.point("stage_position_m"), self.point("beam_shift_m")
        return Beam(
            current_pa=self.value("BeamCurrent") * 1e12,
            blanked=self.value("C_Blank") != 0.0,
            stage_nm=((stage[0] - shift[0]) * 1e9, (stage[1] - shift[1]) * 1e9),
            defocus_nm=self.instrument.GetVal("C10") * 1e9,
            convergence_mrad=self.instrument.GetVal("ConvergenceAngle") * 1e3,
        )
