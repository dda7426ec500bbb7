"""Closed loops for scanning transmission electron microscopy: observe, decide, act, show.

Pure numpy, scipy and onnxruntime. Nothing here knows Nion Swift, a vendor or a user interface; PyTorch is imported
only inside :mod:`adaptive_core.training`.
"""
