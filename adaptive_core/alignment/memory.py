"""Remembers how a shift moves the disk, for each camera length: a warm start for the next alignment.

Pure data in a small JSON file; what a key means (camera, control, camera length) is up to the caller.
"""

from __future__ import annotations

import json
import os
import pathlib
import tempfile

import numpy as np

from adaptive_core.alignment.policy import FloatArray
from adaptive_core.errors import InvalidInputError

_VERSION = 1


class ResponseMemory:
    """Jacobians (2, 2), px of the camera (not binned) a unit of the control, by key."""

    def __init__(self, path: pathlib.Path | None = None) -> None:
        self._path = path
        self._jacobians: dict[str, FloatArray] = {}
        if path is not None and path.exists():
            self._jacobians = _read(path)

    @staticmethod
    def key(camera: str, control: str, camera_length_mm: float | None) -> str:
        """A key for these optics."""
        length = "unknown" if camera_length_mm is None else f"{camera_length_mm:.4g} mm"
        return f"{camera} / {control} / {length}"

    def recall(self, key: str) -> FloatArray | None:
        """The Jacobian, None if there is none."""
        jacobian = self._jacobians.get(key)
        return None if jacobian is None else jacobian.copy()

    def mirrored(self, key: str) -> bool | None:
        """Whether the shift's axes are seen in a mirror, None if it is not known."""
        jacobian = self._jacobians.get(key)
        return None if jacobian is None else bool(np.linalg.det(jacobian) < 0)

    def remember(self, key: str, jacobian: FloatArray) -> None:
        """Keep a Jacobian and write the file. Raises InvalidInputError if it cannot be inverted, OSError."""
        array = np.array(jacobian, dtype=np.float64)
        if array.shape != (2, 2) or not np.isfinite(array).all() or np.linalg.cond(array) > 100:
            raise InvalidInputError(f"A Jacobian must be an invertible matrix of 2 x 2, not {array.tolist()}.")
        self._jacobians[key] = array
        self._write()

    def forget(self, key: str) -> None:
        """Forget a key, if it is known, and write the file."""
        if self._jacobians.pop(key, None) is not None:
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        content = {"version": _VERSION, "jacobians": {k: v.tolist() for k, v in self._jacobians.items()}}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        os.replace(name, self._path)


def _read(path: pathlib.Path) -> dict[str, FloatArray]:
    """Raises InvalidInputError if the file is not one of ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise InvalidInputError(f"{path.name} has version {content['version']}; expected {_VERSION}.")
        found = {str(k): np.array(v, dtype=np.float64) for k, v in content["jacobians"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"{path.name} holds no responses of a shift: {error}.") from error
    if any(jacobian.shape != (2, 2) or not np.isfinite(jacobian).all() for jacobian in found.values()):
        raise InvalidInputError(f"{path.name} holds something else than finite matrices of 2 x 2.")
    return found
