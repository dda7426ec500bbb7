"""Probe positions from Swift's frame parameters."""

from __future__ import annotations

from nion.instrumentation import scan_base

from adaptive_core.simulation.scan_geometry import Context, ScanGeometry


def context_of(parameters: scan_base.ScanFrameParameters) -> Context:
    """The whole scan of these frame parameters."""
    return Context(
        parameters.pixel_size.as_tuple(),
        parameters.fov_nm,
        parameters.rotation_rad,
        parameters.center_nm.as_tuple(),
    )


def geometry_of(parameters: scan_base.ScanFrameParameters) -> ScanGeometry:
    """The probe positions that these frame parameters ask for."""
    path = parameters.get_parameter("scan_path")
    if path is not None:
        return ScanGeometry.positions(context_of(parameters), path)
    return raster_of(parameters)


def raster_of(parameters: scan_base.ScanFrameParameters) -> ScanGeometry:
    """The whole scan or subscan of these frame parameters, whatever list of positions they hold."""
    size, center = parameters.subscan_fractional_size, parameters.subscan_fractional_center
    pixels = parameters.subscan_pixel_size
    return ScanGeometry.raster(
        context_of(parameters),
        pixels.as_tuple() if pixels else None,
        size.as_tuple() if size else (1.0, 1.0),
        center.as_tuple() if center else (0.5, 0.5),
        parameters.subscan_rotation,
    )
