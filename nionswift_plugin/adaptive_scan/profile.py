"""A private home for Nion Swift: its own profile, settings and one project that opens without a dialog.

A demonstration or a test must not touch the profile an operator works with. On Linux Swift finds its folders through
the XDG variables, so redirecting those is enough; ``HOME`` stays as it is, since X11 looks for its authority there.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import uuid

from nion.swift import Workspace
from nion.swift.model import FileStorageSystem, Profile

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.settings import SIMULATOR_ID, PartialScanSettings, SettingsStore
from nionswift_plugin.adaptive_scan.swift_folders import SwiftFolders

PROJECT_NAME = "Adaptive Scan"


@dataclasses.dataclass(frozen=True)
class SwiftHome:
    """The folders of a private Swift.

    Attributes:
        directory: folder that holds everything, absolute.
    """

    directory: pathlib.Path

    @property
    def project_path(self) -> pathlib.Path:
        """The project that Swift opens at the start."""
        return self.directory / "Projects" / f"{PROJECT_NAME}.nsproj"

    @property
    def folders(self) -> SwiftFolders:
        """Where this Swift and its plug-ins keep their files."""
        application = pathlib.Path("Nion", "Nion Swift")
        return SwiftFolders(
            data=self.directory / "data" / application,
            configuration=self.directory / "config" / application,
            documents=self.directory / "Documents",
        )

    @property
    def profile_path(self) -> pathlib.Path:
        """The list of projects that Swift reads at the start."""
        return self.folders.data / "Profile.nsproj"

    def environment(self, base: collections.abc.Mapping[str, str]) -> dict[str, str]:
        """``base`` with the variables that send Swift to this home."""
        return {
            **base,
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            "XDG_CONFIG_HOME": str(self.directory / "config"),
            "XDG_DATA_HOME": str(self.directory / "data"),
        }


def make_swift_home(directory: pathlib.Path) -> SwiftHome:
    """Make a private Swift in ``directory``, or take up the one that is there: its projects and settings are kept.

    A new one is ready for a scan on the simulated instrument, with room for all results in its window.

    Raises:
        InvalidInputError: the folder cannot be written, or the system gives Swift its folders in another way.
    """
    if not sys.platform.startswith("linux"):
        raise InvalidInputError(f"a private home for Swift is possible on Linux only, this system is {sys.platform}")
    home = SwiftHome(directory.absolute())
    if home.profile_path.exists() and home.project_path.exists():
        return home
    folders = home.folders
    try:
        for path in (folders.documents, folders.data, folders.configuration, home.project_path.parent):
            path.mkdir(parents=True, exist_ok=True)
        user_folders = home.directory / "config" / "user-dirs.dirs"
        user_folders.write_text(f'XDG_DOCUMENTS_DIR="{folders.documents}"\n', "utf-8")
        _write_profile(home)
        _arrange_panels(home.project_path)
        SettingsStore(folders.configuration).save(PartialScanSettings(device=SIMULATOR_ID))
    except OSError as error:
        raise InvalidInputError(f"the home for Swift must be a folder that can be written: {error}") from error
    return home


def _write_profile(home: SwiftHome) -> None:
    """Write the profile and an empty project, as Swift does after "New project"."""
    profile_contents = {"version": FileStorageSystem.PROFILE_VERSION, "uuid": str(uuid.uuid4())}
    home.profile_path.write_text(json.dumps(profile_contents), "utf-8")
    storage = FileStorageSystem.make_file_persistent_storage_system(home.profile_path)
    storage.load_properties()
    cache_path = home.folders.data / "Cache"
    cache_path.mkdir(exist_ok=True)
    profile = Profile.Profile(storage_system=storage, cache_dir_path=cache_path)
    try:
        profile.read_profile()
        reference = profile.create_project(home.project_path.parent, PROJECT_NAME)
        if reference is None:
            raise OSError(f"Swift made no project in {home.project_path.parent}")
        profile.last_project_reference = reference.uuid
        # Without this Swift looks for interactive scripts of older versions.
        profile.script_items_updated = True
    finally:
        profile.close()


def _arrange_panels(project_path: pathlib.Path) -> None:
    """Divide the project's window into four, so that all results of a scan are seen."""
    panels = [Workspace.create_image_desc() for _ in range(4)]
    panels[0]["selected"] = True
    halves = [Workspace.create_splitter_desc("vertical", [0.5, 0.5], pair) for pair in (panels[:2], panels[2:])]
    workspace = {
        "type": "workspace",
        "uuid": str(uuid.uuid4()),
        "name": PROJECT_NAME,
        "layout": Workspace.create_splitter_desc("horizontal", [0.5, 0.5], halves),
    }
    project = json.loads(project_path.read_text("utf-8"))
    project |= {"workspaces": [workspace], "workspace_uuid": workspace["uuid"]}
    project_path.write_text(json.dumps(project), "utf-8")


def run_swift(home: SwiftHome | None = None) -> int:
    """Start Nion Swift and wait for its end; ``None`` is the operator's own profile. Returns the exit status."""
    environment = dict(os.environ) if home is None else home.environment(os.environ)
    return subprocess.run([sys.executable, "-m", "nion.swift.command"], env=environment, check=False).returncode
