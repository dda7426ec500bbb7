"""Where Swift keeps its files, and where this plug-in keeps its own among them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys


@dataclasses.dataclass(frozen=True)
class SwiftFolders:
    """The folders in which Swift looks for plug-ins and settings.

    Attributes:
        data: plug-ins and profile.
        configuration: settings of Swift and of its devices.
        documents: documents of the user, where further plug-ins may be.
    """

    data: pathlib.Path
    configuration: pathlib.Path
    documents: pathlib.Path

    @property
    def models(self) -> pathlib.Path:
        """The user's own models."""
        return self.data / "Adaptive Scan" / "Models"

    @property
    def runs(self) -> pathlib.Path:
        """Journals of runs for which no other folder was chosen."""
        return self.data / "Adaptive Scan" / "Runs"


def user_folders() -> SwiftFolders:
    """The present user's, where Qt's standard paths put them."""
    home, application = pathlib.Path.home(), pathlib.Path("Nion", "Nion Swift")
    documents = home / "Documents"
    if sys.platform == "win32":
        roaming = pathlib.Path(os.environ.get("APPDATA", home / "AppData" / "Roaming"))
        local = pathlib.Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
        return SwiftFolders(roaming / application, local / application, documents)
    if sys.platform == "darwin":
        library = home / "Library"
        return SwiftFolders(
            library / "Application Support" / application, library / "Preferences" / application, documents
        )
    data = pathlib.Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    configuration = pathlib.Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return SwiftFolders(data / application, configuration / application, documents)
