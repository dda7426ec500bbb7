"""The exceptions that a caller can catch.

Every message is one line that states the rule that was broken and the value that broke it, so that it can be shown to
an operator as it is.
"""


class AdaptiveScanError(Exception):
    """Base of every error that this project raises on purpose."""


class InvalidInputError(AdaptiveScanError, ValueError):
    """A request that can be refused before the beam moves: a bad plan, an unreadable specimen, an unknown device."""


class ModelError(InvalidInputError):
    """A model file that is refused; the message says what was expected and what was found."""


class JournalError(AdaptiveScanError):
    """A journal that cannot be written or read."""


class ScanCancelledError(AdaptiveScanError):
    """An action that was stopped on purpose, from another thread, while it was being carried out."""


class DeviceError(AdaptiveScanError):
    """Hardware that failed while it was in use."""


class DeviceTimeoutError(DeviceError):
    """Hardware that did not answer in time."""


class DeviceDisconnectedError(DeviceError):
    """Hardware that went away."""


class DeviceDataError(DeviceError):
    """Hardware that answered with unusable data: too few values, the wrong shape, or values that are not finite."""
