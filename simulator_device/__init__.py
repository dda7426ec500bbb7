"""A simulated scanning transmission electron microscope for Nion Swift, on Nion's device kit.

Scan device, camera and STEM controls around :mod:`adaptive_core.simulation`. Other packages find it through Swift's
Registry by the component types "simulated_specimen" (:class:`adaptive_core.ports.SimulatedSpecimen`) and
"simulated_instrument" (:class:`adaptive_core.simulation.settings.SimulatedInstrument`).
"""
