"""The packages of the distribution; everything else stands in setup.cfg.

``find_namespace_packages`` is needed because ``nionswift_plugin`` is a namespace that Nion's packages share. The models
are kept at the top of the repository and installed inside ``adaptive_core``, where the model library looks for them.
"""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(
            include=["adaptive_core*", "simulator_device*", "nionswift_plugin*"], exclude=["*__pycache__*"]
        ),
        "adaptive_core.models",
    ]
)
