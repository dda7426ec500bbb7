"""Makes ``py4dstem_cube.h5``, a data cube as py4DSTEM writes it; run it in py4DSTEM's own environment.

    python make_py4dstem_cube.py

The file here was made with py4DSTEM 0.14.18.
"""

import importlib
import pathlib

import numpy as np

if __name__ == "__main__":
    py4dstem = importlib.import_module("py4DSTEM")
    cube = py4dstem.DataCube(data=np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8))
    cube.calibration.set_R_pixel_size(0.5)
    cube.calibration.set_R_pixel_units("A")
    cube.calibration.set_Q_pixel_size(1.58)
    cube.calibration.set_Q_pixel_units("mrad")
    py4dstem.save(pathlib.Path(__file__).with_name("py4dstem_cube.h5"), cube, mode="o")
