"""Generators: they complete a partial scan, and say how far off they may be."""

from __future__ import annotations

import dataclasses
import functools
import typing

import numpy as np
from scipy.interpolate import LinearNDInterpolator

from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.model_library import LoadedModel
from adaptive_core.nearest_pixels import nearest_pixels
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.position_errors import PositionErrors
from adaptive_core.ports import ImageArray


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A completed scan in detector units.

    Attributes:
        image: shape (height, width), float32.
        error: predicted standard deviation of the image's error, shape (height, width), float32; None if not predicted.
        standardised: image and log variance on the models' scale, shape (1, 2, height, width), float32, as policies
            observe it; the log variance is 0 where none is predicted.
        probes: how many probes were known to it.
        position_errors: what was seen of them in the scan, and corrected; None for nothing.
    """

    image: ImageArray
    error: ImageArray | None
    standardised: ImageArray
    probes: int
    position_errors: PositionErrors | None = None

    @functools.cached_property
    def predicted_error(self) -> float | None:
        """Predicted RMS error of the completion in units of the measured values' standard deviation."""
        if self.error is None:
            return None
        return float(np.sqrt(np.mean(np.exp(self.standardised[0, 1], dtype=np.float64))))


class Generator(typing.Protocol):
    """Completes a partial scan."""

    @property
    def name(self) -> str:
        """Name shown in menus and kept in journals."""
        ...

    @property
    def predicts_error(self) -> bool:
        """Whether estimates carry a predicted error."""
        ...

    def complete(self, scan: PartialImage, channel: int = 0) -> Estimate:
        """Complete one channel. Raises ModelError if the model's output is not finite."""
        ...


def _estimate(scan: PartialImage, channel: int, image: ImageArray, log_variance: ImageArray | None) -> Estimate:
    """From the models' scale to detector units."""
    mean, deviation = scan.scale(channel)
    error = None if log_variance is None else np.asarray(np.exp(0.5 * log_variance) * deviation, dtype=np.float32)
    channels = (image, np.zeros_like(image) if log_variance is None else log_variance)
    return Estimate(
        np.asarray(image * deviation + mean, dtype=np.float32), error, np.stack(channels)[np.newaxis], scan.probes
    )


class OnnxGenerator:
    """A generator that is an ONNX model of the kind ``partial_scan_generator``."""

    def __init__(self, model: LoadedModel) -> None:
        if model.card.kind != "partial_scan_generator":
            raise ModelError(
                f"{model.card.name}: expected a model of the kind partial_scan_generator, found {model.card.kind}."
            )
        self.model = model
        self.name = model.card.name
        self.predicts_error = "log_variance" in model.output_names

    def complete(self, scan: PartialImage, channel: int = 0) -> Estimate:
        height, width = scan.size_px
        outputs = self.model.run(partial=scan.model_input(self.model.card.size_multiple or 1, channel))
        cropped = {name: output[0, 0, :height, :width] for name, output in outputs.items()}
        for name, output in cropped.items():
            if not np.isfinite(output).all():
                raise ModelError(f"{self.name}: the output {name} is not finite; the model is unusable for this scan.")
        return _estimate(scan, channel, cropped["image"], cropped.get("log_variance"))


class InterpolatingGenerator:
    """Completion without learning: the nearest measured pixel, or linear interpolation between measured pixels.

    Linear interpolation is that of a Delaunay triangulation; outside the convex hull the nearest pixel is taken.
    """

    predicts_error = False

    def __init__(self, method: typing.Literal["nearest", "linear"]) -> None:
        self.name = f"{method}-interpolation"
        self._method = method

    def complete(self, scan: PartialImage, channel: int = 0) -> Estimate:
        mask = scan.measured
        if not mask.any():
            return _estimate(scan, channel, np.zeros(scan.size_px, dtype=np.float32), None)
        measured = scan.model_input(1, channel)[0, 0]
        image = measured[tuple(nearest_pixels(mask).pixel)]
        points = np.argwhere(mask)
        # A triangulation needs three points that are not on a line.
        if self._method == "linear" and np.linalg.matrix_rank(points - points[0]) == 2:
            grid = np.moveaxis(np.indices(scan.size_px), 0, -1)
            linear = LinearNDInterpolator(points, measured[mask])(grid)
            image = np.where(np.isfinite(linear), linear, image)
        return _estimate(scan, channel, np.asarray(image, dtype=np.float32), None)


BUILT_IN_GENERATORS: typing.Final = ("linear-interpolation", "nearest-interpolation")


def built_in_generator(name: str) -> Generator:
    """One of BUILT_IN_GENERATORS by its name."""
    if name == "linear-interpolation":
        return InterpolatingGenerator("linear")
    if name == "nearest-interpolation":
        return InterpolatingGenerator("nearest")
    raise InvalidInputError(f"There is no generator named {name!r}; there are {', '.join(BUILT_IN_GENERATORS)}.")
