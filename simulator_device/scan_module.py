"""The simulated scan device as Swift registers it, with its scan settings."""

from __future__ import annotations

import copy

from nion.device_kit import ScanDevice as KitScanDevice
from nion.instrumentation import scan_base

from simulator_device.scan_device import ScanDevice


class ScanModule(scan_base.ScanModule):
    """What is registered with Swift.

    Attributes:
        hardware_source: set by Swift when the module is registered.
    """

    panel_type = None
    panel_delegate_type = None
    data_channel_delegate = None
    hardware_source: scan_base.ScanHardwareSource

    def __init__(self, stem_controller_id: str, device: ScanDevice, view_nm: float) -> None:
        self.stem_controller_id = stem_controller_id
        self.device = device
        self.priority = 5 if device.scan_device_is_secondary else 20
        modes = [("Fast", 256, 1.0), ("Slow", 512, 4.0), ("Record", 1024, 8.0)]
        self.settings = scan_base.ScanSettings(
            device.scan_device_id,
            tuple(
                scan_base.ScanSettingsMode(
                    name,
                    name.lower(),
                    KitScanDevice.ScanFrameParameters(pixel_size=(side, side), pixel_time_us=dwell_us, fov_nm=view_nm),
                )
                for name, side, dwell_us in modes
            ),
            lambda parameters: KitScanDevice.ScanFrameParameters(dict(parameters)),
            0,
            2,
        )

    def show(self, fov_nm: float) -> None:
        """Set the field of view of all scan settings, with the whole scan in the middle of the specimen."""
        for index in range(len(self.settings.modes)):
            parameters = copy.copy(self.settings.get_frame_parameters(index))
            parameters.fov_nm = fov_nm
            self.settings.set_frame_parameters(index, parameters)
