"""Plain numpy physics of the simulated instrument: specimens, detectors, noise, drift and faults."""
