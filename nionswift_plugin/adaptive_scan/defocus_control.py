"""The instrument's control of the defocus, which a scan changes and puts back."""

from __future__ import annotations

import collections.abc
import contextlib
import functools

from nion.instrumentation import stem_controller

from adaptive_core.errors import DeviceError, InvalidInputError
from nionswift_plugin.adaptive_scan.alignment_devices import control_value
from nionswift_plugin.adaptive_scan.putting_back import putting_back

_TOLERANCE_NM = 0.01


class DefocusControl:
    """Sets an underfocus relative to the present one, whatever the control's own zero is.

    Args:
        stem: the STEM controller.
        name: of the control in m, overfocus positive; without one the defocus cannot be set.
        device_id: named in the log if the defocus cannot be put back.
    """

    def __init__(self, stem: stem_controller.STEMController, name: str | None, device_id: str) -> None:
        self._stem, self._name, self._device_id = stem, name or "", device_id
        self._before: float | None = None

    @property
    def exists(self) -> bool:
        """Whether the instrument has it."""
        return control_value(self._stem, self._name) is not None

    @contextlib.contextmanager
    def session(self) -> collections.abc.Iterator[None]:
        """What :meth:`set` changes is put back at the end."""
        self._before = control_value(self._stem, self._name)
        if self._before is None:
            yield
            return
        with contextlib.ExitStack() as stack:
            stack.push(putting_back(self._device_id, "the defocus", functools.partial(self._set, self._before)))
            yield

    def set(self, defocus_nm: float, present_nm: float) -> None:
        """Have an underfocus; ``present_nm`` is what it was as the session began. Inside a session.

        Raises:
            InvalidInputError: there is no such control, and another defocus is wanted.
            DeviceError: the control does not take the value.
        """
        if self._before is not None:
            self._set(self._before - (defocus_nm - present_nm) * 1e-9)
        elif abs(defocus_nm - present_nm) > _TOLERANCE_NM:
            raise InvalidInputError(f"The instrument has no control of the defocus to set {defocus_nm:g} nm.")

    def _set(self, value: float) -> None:
        try:
            taken = self._stem.SetVal(self._name, value)
        except Exception as error:  # vendors raise what they like
            raise DeviceError(f"The control {self._name} cannot be set: {error!r}") from error
        found = control_value(self._stem, self._name)
        if not taken or found is None or abs(found - value) > _TOLERANCE_NM * 1e-9:
            raise DeviceError(f"The control {self._name} did not take the value {value:.4g} m; it is at {found}.")
