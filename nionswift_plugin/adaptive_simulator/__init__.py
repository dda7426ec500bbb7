"""Registers the simulated instrument with Swift; see :mod:`simulator_device.registration`."""

from __future__ import annotations

import typing

from simulator_device import registration

_listener: typing.Any = None


class AdaptiveSimulatorExtension:
    """Swift makes one when it loads the plug-in and closes it at the end."""

    extension_id = "adaptive_scan.simulator"

    def __init__(self, api_broker: object) -> None:
        """Nothing of Swift's API is needed."""

    def close(self) -> None:
        """Stop waiting for hardware; Swift itself closes the devices that were registered."""
        global _listener
        _listener = None


def run() -> None:
    """Called by Swift once all plug-ins are loaded."""
    global _listener
    _listener = registration.attach_when_hardware_is_known()
