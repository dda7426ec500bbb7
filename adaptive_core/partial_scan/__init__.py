"""The closed loop of an adaptive partial scan: policy, generator and episode."""
