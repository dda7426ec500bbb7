"""Reconstruct a scan file with py4DSTEM, in an environment of its own (py4DSTEM needs numpy below 2).

    python py4dstem_reader.py SCAN.h5 RESULT.npz --iterations 5

This file imports nothing of Adaptive Scan: it is the reader's example, and the benchmark calls it as a process. The
result holds ``phase`` (height, width) in rad, ``pixel_A``, ``positions_px`` (p, 2) of the probes in it, and ``seconds``
of the reconstruction alone.
"""

import argparse
import importlib
import time

import h5py
import numpy as np


def main() -> None:
    """Read, reconstruct, write."""
    parser = argparse.ArgumentParser(description="Reconstruct a scan file with py4DSTEM.")
    parser.add_argument("scan")
    parser.add_argument("result")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--batch", type=int, default=25)
    arguments = parser.parse_args()

    py4dstem = importlib.import_module("py4DSTEM")
    with h5py.File(arguments.scan, "r") as file:
        patterns, positions = file["patterns"][:], file["positions_A"][:]
        attributes = dict(file.attrs)
    datacube = py4dstem.DataCube(data=patterns[:, None].astype(np.float32))
    datacube.calibration.set_R_pixel_size(1.0)
    datacube.calibration.set_R_pixel_units("A")
    datacube.calibration.set_Q_pixel_size(float(attributes["mrad_per_px"]))
    datacube.calibration.set_Q_pixel_units("mrad")
    began = time.perf_counter()
    ptychography = py4dstem.process.phase.SingleslicePtychography(
        energy=float(attributes["energy_kev"]) * 1e3,
        datacube=datacube,
        semiangle_cutoff=float(attributes["convergence_mrad"]),
        polar_parameters={"C10": -float(attributes["defocus_A"]), "Cs": float(attributes["cs_mm"]) * 1e7},
        initial_scan_positions=positions,
        object_type="potential",
        verbose=False,
    )
    side = 3 * patterns.shape[-1] // 2  # real-space sampling that holds the object's frequencies
    ptychography.preprocess(
        force_com_rotation=0,
        force_com_transpose=False,
        padded_diffraction_intensities_shape=(side, side),
        plot_center_of_mass=False,
        plot_rotation=False,
        plot_probe_overlaps=False,
    )
    prepared = time.perf_counter()
    ptychography.reconstruct(
        num_iter=arguments.iterations,
        max_batch_size=arguments.batch,
        step_size=0.5,
        seed_random=0,
        fix_probe=True,
        object_positivity=False,
        gaussian_filter=False,
        butterworth_filter=False,
        tv_denoise=False,
        progress_bar=False,
    )
    ended = time.perf_counter()
    np.savez_compressed(
        arguments.result,
        phase=np.asarray(ptychography._object, dtype=np.float32),
        pixel_A=np.asarray(ptychography.sampling, dtype=np.float64),
        positions_px=np.asarray(ptychography._positions_px, dtype=np.float64),
        seconds=ended - prepared,
        preparation_seconds=prepared - began,
    )


if __name__ == "__main__":
    main()
