"""Adaptive ptychography: reconstruction, probe positions, metrics and the loop that chooses where to look next."""
