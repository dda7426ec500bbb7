"""The library finds, verifies and loads models, and stays usable beside refused ones."""

import hashlib
import json
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny_models
from tiny_models import save

from adaptive_core import model_library
from adaptive_core.errors import ModelError
from adaptive_core.model_card import KINDS, read_card
from adaptive_core.model_library import LoadedModel, ModelLibrary, add_model, read_sums, shipped_folder, write_sums

BARE = tiny_models.model(
    [tiny_models.node("Tanh", "values", "positions")], {"values": (1, 20)}, {"positions": (1, 20)}
).SerializeToString()


@pytest.fixture
def shipped(tmp_path):
    """A folder of shipped models with its list of hashes."""
    folder = tmp_path / "shipped"
    save(folder, "completes.onnx", tiny_models.generator())
    save(folder, "walks.onnx", tiny_models.direction_policy(name="Walker"))
    write_sums(folder)
    return folder


@pytest.fixture
def own(tmp_path):
    """A user's folder of models, some of them bad."""
    folder = tmp_path / "own"
    save(folder, "segments.onnx", tiny_models.segment_policy(name="My policy"))
    save(folder, "bare.onnx", BARE)
    save(folder, "text.onnx", b"hello")
    save(folder, "notes.txt", b"not a model")
    (folder / "folder.onnx").mkdir()
    return folder


def test_the_list_shows_every_file_with_its_card_or_refusal(shipped, own):
    entries = {entry.path.name: entry for entry in ModelLibrary([own], shipped).list()}
    assert list(entries) == ["completes.onnx", "walks.onnx", "bare.onnx", "folder.onnx", "segments.onnx", "text.onnx"]
    assert entries["completes.onnx"].card == tiny_models.GENERATOR_CARD
    assert entries["completes.onnx"].shipped
    assert entries["walks.onnx"].name == "Walker"
    assert not entries["segments.onnx"].shipped
    assert entries["segments.onnx"].sha256 == hashlib.sha256((own / "segments.onnx").read_bytes()).hexdigest()
    assert "no card" in entries["bare.onnx"].refusal
    assert "no file" in entries["folder.onnx"].refusal
    assert "Not an ONNX file" in entries["text.onnx"].refusal
    assert entries["text.onnx"].name == "text"


def test_the_list_can_be_limited_to_a_kind(shipped, own):
    entries = ModelLibrary([own], shipped).list("partial_scan_policy")
    assert [entry.name for entry in entries] == ["Walker", "My policy"]


def test_folders_that_do_not_exist_hold_nothing(tmp_path):
    assert ModelLibrary([tmp_path / "none"], tmp_path / "nowhere").list() == ()


@pytest.mark.parametrize("source", ["Walker", "walks", "{}/walks.onnx"])
def test_a_model_is_loaded_by_name_file_name_or_path(shipped, source):
    library = ModelLibrary(shipped=shipped)
    loaded = library.load(source.format(shipped), "partial_scan_policy")
    assert loaded.card.name == "Walker"
    assert library.load(loaded.path) is loaded
    outputs = loaded.run(values=np.zeros((1, 20), np.float32), state=np.full((1, 4), 2, np.float32))
    assert outputs["direction"] == pytest.approx(np.array([[0.6, 0.8]]))
    assert outputs["state_out"] == pytest.approx(np.full((1, 4), 3.0))
    assert loaded.input_shapes == {"values": (1, 20), "state": (1, 4)}


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("nobody", None, r"no model named 'nobody'; there are: Tiny generator; Walker; My policy\."),
        (
            "Walker",
            "partial_scan_generator",
            r"expected a model of the kind partial_scan_generator, found partial_scan_policy",
        ),
        ("bare", None, r"bare\.onnx: The model has no card"),
        ("folder", None, r"folder\.onnx: .* is no file"),
        ("missing.onnx", None, r"missing\.onnx: .* cannot be read: No such file"),
    ],
)
def test_what_cannot_be_loaded_is_refused(shipped, own, source, kind, message):
    library = ModelLibrary([own], shipped)
    with pytest.raises(ModelError, match=message):
        library.load(source, kind)
    assert library.load("Walker").card.name == "Walker"


def test_two_models_of_one_name_need_a_path(shipped, own):
    save(own, "other.onnx", tiny_models.direction_policy((1, 0), name="Walker"))
    with pytest.raises(ModelError, match=r"2 models are named 'Walker': .*walks\.onnx, .*other\.onnx"):
        ModelLibrary([own], shipped).load("Walker")


def test_a_copy_of_a_model_is_the_same_model(shipped, own):
    save(own, "copy.onnx", (shipped / "walks.onnx").read_bytes())
    assert ModelLibrary([own], shipped).load("Walker").card.name == "Walker"


def test_a_shipped_model_that_has_changed_is_refused_and_the_others_stay(shipped):
    save(shipped, "walks.onnx", tiny_models.direction_policy((1, 0), name="Walker"))
    library = ModelLibrary(shipped=shipped)
    completes, walks = library.list()
    assert completes.card is not None
    assert "The shipped model has the SHA-256" in walks.refusal
    assert "expected" in walks.refusal
    for source in (walks.path, pathlib.Path(f"{shipped}/../shipped/walks.onnx")):
        with pytest.raises(ModelError, match="SHA-256"):
            library.load(source)
    assert library.load("Tiny generator").card.name == "Tiny generator"


def test_a_shipped_model_that_is_not_listed_or_missing_is_refused(shipped):
    (shipped / "walks.onnx").rename(shipped / "renamed.onnx")
    refusals = {entry.path.name: entry.refusal for entry in ModelLibrary(shipped=shipped).list()}
    assert refusals["completes.onnx"] is None
    assert "not listed" in refusals["renamed.onnx"]
    assert "cannot be read: No such file" in refusals["walks.onnx"]


@pytest.mark.parametrize("content", [b"what is this", b"\xff\xfe", b"0" * 64 + b"  ../evil.onnx"])
def test_a_bad_list_of_hashes_refuses_every_shipped_model(shipped, own, content):
    save(shipped, "SHA256SUMS", content)
    entries = ModelLibrary([own], shipped).list()
    assert all("SHA256SUMS" in entry.refusal for entry in entries[:2])
    assert entries[-2].card.name == "My policy"


def test_a_file_that_is_too_large_is_refused_unread(own, monkeypatch):
    monkeypatch.setattr(model_library, "SIZE_LIMIT_BYTES", 1000)
    save(own, "large.onnx", b"\0" * 1001)
    with pytest.raises(ModelError, match=r"large\.onnx: The model has 1001 bytes; expected at most 1000"):
        ModelLibrary(shipped=own / "none").load(own / "large.onnx")


def test_a_model_is_found_by_its_hash_whatever_its_name(shipped, own):
    digest = hashlib.sha256((own / "segments.onnx").read_bytes()).hexdigest()
    (own / "segments.onnx").rename(own / "elsewhere.onnx")
    assert ModelLibrary([own], shipped).find(digest).path == own / "elsewhere.onnx"
    with pytest.raises(ModelError, match=f"The model Lost with the SHA-256 {'0' * 64} is in none of .*shipped, .*own"):
        ModelLibrary([own], shipped).find("0" * 64, "Lost")


def test_inputs_that_do_not_fit_are_refused(shipped):
    loaded = ModelLibrary(shipped=shipped).load("completes")
    for arrays in ({}, {"partial": np.zeros((1, 3, 8, 8), np.float32)}, {"partial": np.zeros((1, 2, 8, 8))}):
        with pytest.raises(ModelError, match="Tiny generator could not run: ") as error:
            loaded.run(**arrays)
        assert len(str(error.value).splitlines()) == 1


def test_a_model_can_run_on_several_threads(shipped):
    loaded = ModelLibrary(shipped=shipped).load("completes")
    scans = [np.full((1, 2, 64, 64), i, np.float32) for i in range(4)]
    wrong = []

    def run(scan):
        for _ in range(50):
            if not np.array_equal(loaded.run(partial=scan)["image"], scan[:, :1]):
                wrong.append(scan)

    threads = [threading.Thread(target=run, args=(scan,)) for scan in scans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_loading_changes_no_file(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    ModelLibrary(shipped=shipped).load("completes")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_running_a_small_policy_takes_far_less_than_a_third_of_a_millisecond(shipped):
    loaded = ModelLibrary(shipped=shipped).load("Walker")
    arrays = {"values": np.zeros((1, 20), np.float32), "state": np.zeros((1, 4), np.float32)}
    seconds = []
    for _ in range(500):
        begin = time.perf_counter()
        loaded.run(**arrays)
        seconds.append(time.perf_counter() - begin)
    assert np.median(seconds) < 1e-4


def card_json(**fields):
    data = json.loads(tiny_models.POLICY_CARD.to_json())
    return json.dumps(data | {"action": "positions", "probes_per_segment": 10, "name": "Mine"} | fields)


MINE = tiny_models.model(
    [
        tiny_models.constant("shape", [1, 10, 2], [3], tiny_models.TensorProto.INT64),
        tiny_models.node("Concat", "values values", "twice", axis=1),
        tiny_models.node("Reshape", "twice shape", "positions"),
    ],
    {"values": (1, 10)},
    {"positions": (1, 10, 2)},
).SerializeToString()


def test_a_users_own_model_gets_a_card(tmp_path, shipped):
    source = save(tmp_path, "mine.onnx", MINE)
    added = add_model(source, card_json(), tmp_path / "models" / "own")
    assert added.path == tmp_path / "models" / "own" / "mine.onnx"
    assert read_card(added.path.read_bytes()).name == "Mine"
    assert source.read_bytes() == MINE
    assert [path.name for path in added.path.parent.iterdir()] == ["mine.onnx"]
    assert ModelLibrary([added.path.parent], shipped).load("Mine").sha256 == added.sha256


def test_a_model_with_a_card_is_added_as_it_is(tmp_path):
    content = tiny_models.generator()
    added = add_model(save(tmp_path, "good.onnx", content), None, tmp_path / "own")
    assert added.path.read_bytes() == content


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (None, "has no card"),
        ("{", "not valid JSON"),
        (card_json(action="segment"), "expected segment"),
        (card_json(probes_per_segment=20), "has the shape"),
    ],
)
def test_a_model_that_is_refused_is_not_added(tmp_path, card, message):
    with pytest.raises(ModelError, match=message):
        add_model(save(tmp_path, "mine.onnx", MINE), card, tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_model_is_replaced_only_on_demand(tmp_path):
    source = save(tmp_path, "mine.onnx", MINE)
    add_model(source, card_json(), tmp_path / "own")
    with pytest.raises(ModelError, match=r"There is a model mine\.onnx in .*own already"):
        add_model(source, card_json(name="Newer"), tmp_path / "own")
    assert add_model(source, card_json(name="Newer"), tmp_path / "own", replace=True).card.name == "Newer"
    assert read_card((tmp_path / "own" / "mine.onnx").read_bytes()).name == "Newer"


def test_a_destination_that_cannot_be_written_is_refused(tmp_path):
    source = save(tmp_path, "mine.onnx", MINE)
    with pytest.raises(ModelError, match="cannot be written to"):
        add_model(source, card_json(), source)


def test_sums_are_those_of_sha256sum(shipped):
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=shipped, capture_output=True, text=True, check=True)
    assert sums.stdout.splitlines() == ["completes.onnx: OK", "walks.onnx: OK"]
    assert list(read_sums(shipped)) == ["completes.onnx", "walks.onnx"]


def test_sums_are_not_written_for_a_bad_model(shipped):
    before = (shipped / "SHA256SUMS").read_bytes()
    save(shipped, "nan.onnx", tiny_models.nan_generator())
    with pytest.raises(ModelError, match=r"nan\.onnx: The output image is not finite"):
        write_sums(shipped)
    assert (shipped / "SHA256SUMS").read_bytes() == before


def test_every_shipped_model_verifies():
    library = ModelLibrary()
    assert library.shipped == shipped_folder()
    assert (library.shipped / "SHA256SUMS").is_file()
    for entry in library.list():
        assert entry.refusal is None, entry.refusal
        loaded = library.load(entry.path)
        assert isinstance(loaded, LoadedModel)
        assert loaded.card.kind in KINDS
        assert loaded.card.description
        assert loaded.card.trained_on
        assert loaded.card.licence


def test_neither_reading_nor_running_a_model_imports_onnx_or_torch(shipped):
    code = f"""
import pathlib, sys
from adaptive_core.model_library import ModelLibrary
ModelLibrary(shipped=pathlib.Path({str(shipped)!r})).load("completes")
sys.exit(", ".join({{"onnx", "torch"}} & sys.modules.keys()) or 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
