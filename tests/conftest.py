"""Settings of all tests."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("suite", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.load_profile("suite")
