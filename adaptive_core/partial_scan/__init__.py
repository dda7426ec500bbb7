"""The closed loop of an adaptive partial scan: policy, generator and episode."""

from adaptive_core.finish_reason import FinishReason
from adaptive_core.partial_scan.episode import Episode, ScanStep
from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import Budget, ScanPlan
from adaptive_core.partial_scan.policy import Observation, Policy, PolicyRun

__all__ = [
    "Budget",
    "Episode",
    "Estimate",
    "FinishReason",
    "Generator",
    "Observation",
    "PartialImage",
    "Policy",
    "PolicyRun",
    "ScanPlan",
    "ScanStep",
]
