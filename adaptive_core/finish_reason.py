"""How a run ended."""

import enum


class FinishReason(enum.StrEnum):
    """How a run ended."""

    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
