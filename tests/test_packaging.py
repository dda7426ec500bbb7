"""What an installation holds: the wheel, the command, the plug-ins that Swift lists, and nothing of the training."""

from __future__ import annotations

import configparser
import json
import pathlib
import shutil
import site
import subprocess
import sys
import zipfile

import pytest

from adaptive_core.model_library import LoadedModel

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("adaptive_core", "simulator_device", "nionswift_plugin")
SHIPPED_MODELS = sorted(path.name for path in (ROOT / "models").glob("*.onnx"))
TRAINING_ONLY = {"torch", "onnx", "gymnasium", "stable_baselines3", "skimage", "dask", "distributed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A wheel of this source tree, built as a packager builds it."""
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "models"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    output = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(source))
    return next(output.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The ``bin`` of a fresh environment with the wheel; the other packages are those of the present environment."""
    environment = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = environment / "bin" / "python"
    _run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel))
    packages = _run(str(python), "-c", "import site; print(site.getsitepackages()[0])").strip()
    # Packages of a folder that a .pth names are found, but its own .pth files, with this source tree, are not read.
    (pathlib.Path(packages) / "dependencies.pth").write_text("\n".join(site.getsitepackages()), "utf-8")
    return environment / "bin"


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_the_docs_tell_how_each_shipped_model_was_trained_and_its_log_lies_beside_it(name: str) -> None:
    path = ROOT / "models" / name
    training = LoadedModel(path.read_bytes(), path).card.training
    rows = (ROOT / "docs" / "models.md").read_text("utf-8").splitlines()
    (row,) = [row for row in rows if row.startswith(f"| `{path.stem}` |")]
    assert row.endswith(f"| `{training['command']}` | {training['seed']} |")
    assert {"config.json", "curve.png"} <= {log.name for log in (ROOT / "models" / "training" / path.stem).iterdir()}


def test_wheel_holds_every_module_and_data_file(wheel: pathlib.Path) -> None:
    contents = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.name == "manifest.json" or path.suffix in (".py", ".toml")
    }
    models = {f"adaptive_core/models/{name}" for name in [*SHIPPED_MODELS, "SHA256SUMS"]}
    assert contents == sources | models
    assert not any(name == "nionswift_plugin/__init__.py" for name in contents), (
        "nionswift_plugin is a namespace package"
    )


def test_a_normal_installation_needs_no_training_package(wheel: pathlib.Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    requirements = [line.split(": ", 1)[1] for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    normal = [requirement for requirement in requirements if "extra ==" not in requirement]
    assert any(requirement.startswith("onnxruntime") for requirement in normal)
    for name in (*TRAINING_ONLY, "stable-baselines3", "scikit-image", "nionswift-usim"):
        assert not any(requirement.startswith(name) and "runtime" not in requirement for requirement in normal), name
    nion = [requirement for requirement in normal if requirement.startswith("nion")]
    assert len(nion) == 7
    assert all("<" in requirement and ">=" in requirement for requirement in nion), nion


def test_installed_plug_ins_are_listed_as_swift_lists_them(installed: pathlib.Path) -> None:
    code = (
        "import pkgutil, nionswift_plugin, adaptive_core;"
        "print(adaptive_core.__file__, *(m.name for m in pkgutil.iter_modules(nionswift_plugin.__path__)))"
    )
    core, *plug_ins = _run(str(installed / "python"), "-I", "-c", code).split()
    assert pathlib.Path(core).is_relative_to(installed.parent)
    assert {"adaptive_scan", "adaptive_simulator"} <= set(plug_ins)


def test_installed_command_lists_the_shipped_models(installed: pathlib.Path) -> None:
    listed = _run(str(installed / "adaptive-scan"), "models", "list")
    assert sum("(shipped)" in line for line in listed.splitlines()) == len(SHIPPED_MODELS) > 0


def test_shipped_models_are_those_of_the_hash_list() -> None:
    lines = (ROOT / "models" / "SHA256SUMS").read_text("utf-8").splitlines()
    assert sorted(line.split()[1].lstrip("*") for line in lines) == SHIPPED_MODELS


def test_the_version_is_the_same_everywhere() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg", "utf-8")
    version = metadata["metadata"]["version"]
    for manifest in (ROOT / "nionswift_plugin").glob("*/manifest.json"):
        assert json.loads(manifest.read_text("utf-8"))["version"] == version, manifest
    assert f"## {version}" in (ROOT / "CHANGES.md").read_text("utf-8")


def test_core_and_plug_ins_import_no_training_package() -> None:
    code = """
import importlib, pkgutil, sys
import adaptive_core, nionswift_plugin, simulator_device

roots = [adaptive_core, simulator_device]
roots += [importlib.import_module(f"nionswift_plugin.adaptive_{name}") for name in ("scan", "simulator")]
for root in roots:
    for module in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
        if not module.name.startswith("adaptive_core.training") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(*{name.partition(".")[0] for name in sys.modules})
"""
    assert not TRAINING_ONLY & set(_run(sys.executable, "-c", code).split())


def _run(*command: str) -> str:
    """Standard output of a command that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
