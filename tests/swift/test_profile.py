"""The private home of Nion Swift."""

from __future__ import annotations

import json
import pathlib

import pytest
from nion.swift.model import FileStorageSystem, Profile

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.profile import make_swift_home
from nionswift_plugin.adaptive_scan.settings import SIMULATOR_ID, SettingsStore
from nionswift_plugin.adaptive_scan.swift_folders import user_folders


def test_a_new_home_opens_its_project_without_a_question(tmp_path: pathlib.Path) -> None:
    home = make_swift_home(tmp_path / "home")
    storage = FileStorageSystem.make_file_persistent_storage_system(home.profile_path)
    storage.load_properties()
    profile = Profile.Profile(storage_system=storage, cache_dir_path=tmp_path)
    profile.read_profile()
    try:
        last = profile.last_project_reference
        assert last is not None
        reference = profile.get_project_reference(last)
        assert isinstance(reference, Profile.IndexProjectReference)
        assert reference.project_path == home.project_path
        assert reference.project_state == "unloaded"
        assert profile.script_items_updated
    finally:
        profile.close()
    assert SettingsStore(home.folders.configuration).load().device == SIMULATOR_ID


def test_a_home_is_kept_as_it_is(tmp_path: pathlib.Path) -> None:
    home = make_swift_home(tmp_path / "home")
    before = {path: path.read_bytes() for path in home.directory.rglob("*") if path.is_file()}
    assert make_swift_home(tmp_path / "home") == home
    assert {path: path.read_bytes() for path in home.directory.rglob("*") if path.is_file()} == before


def test_the_environment_sends_swift_and_the_plug_in_to_the_home(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_swift_home(tmp_path / "home")
    environment = home.environment({"HOME": "/home/operator", "XDG_DATA_HOME": "/elsewhere"})
    assert environment["HOME"] == "/home/operator", "X11 looks for its authority there"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert user_folders().data == home.folders.data
    assert user_folders().configuration == home.folders.configuration


def test_a_relative_folder_is_made_absolute(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = make_swift_home(pathlib.Path("home"))
    assert home.directory == tmp_path / "home"
    (reference,) = json.loads(home.profile_path.read_text("utf-8"))["project_references"]
    assert pathlib.Path(reference["project_path"]) == home.project_path


def test_a_file_in_the_way_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "home").write_text("not a folder", "utf-8")
    with pytest.raises(InvalidInputError, match="folder that can be written"):
        make_swift_home(tmp_path / "home")
