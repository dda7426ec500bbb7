"""Finds, verifies and loads ONNX models.

A model is read once into memory, checked (:mod:`adaptive_core.model_checks`) and loaded from these same bytes, so that
no other file is read or written and nothing can change in between. A shipped model must have the SHA-256 that
``models/SHA256SUMS`` lists; a user's own has none listed, and its hash is kept in journals so that a replay finds it.

After a change of the shipped models, ``python -m adaptive_core.model_library`` lists their hashes anew.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import tempfile
import typing

import numpy as np
import numpy.typing as npt
import onnxruntime

from adaptive_core import model_checks
from adaptive_core.bound_model import BoundModel
from adaptive_core.errors import ModelError
from adaptive_core.model_card import ModelCard, read_card, write_card

SUMS_NAME = "SHA256SUMS"
SIZE_LIMIT_BYTES = 128 * 2**20


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """A file of the library: either a card, or the reason for which it is refused.

    Its card, hash and contents have been checked, but it has not run yet; :meth:`ModelLibrary.load` does that.
    """

    path: pathlib.Path
    shipped: bool
    sha256: str | None = None
    card: ModelCard | None = None
    refusal: str | None = None

    @property
    def name(self) -> str:
        """The card's name, or the file's."""
        return self.path.stem if self.card is None else self.card.name


class LoadedModel:
    """A verified model, ready to run.

    Attributes:
        card: what it is.
        sha256: hash of the file, in hexadecimal.
        path: where it came from.
        input_names, output_names: names in the model's order.
        input_shapes: sizes by input; None where the model leaves a dimension free.
    """

    def __init__(self, model: bytes, path: pathlib.Path, threads: int = 1) -> None:
        """Verify and load the bytes of an ONNX file. Raises ModelError."""
        self.sha256 = hashlib.sha256(model).hexdigest()
        self.card = _checked_card(model, self.sha256)
        self.path = path
        self._session = _session(model, threads)
        inputs = [_tensor_info(tensor) for tensor in self._session.get_inputs()]
        outputs = [_tensor_info(tensor) for tensor in self._session.get_outputs()]
        self.input_names = tuple(tensor.name for tensor in inputs)
        self.output_names = tuple(tensor.name for tensor in outputs)
        self.input_shapes = {tensor.name: tensor.shape for tensor in inputs}
        model_checks.check_signature(self.card, inputs, outputs)
        model_checks.check_answers(self.card, inputs, lambda arrays: self.run(**arrays))

    def run(self, **arrays: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """Every output by name for float32 inputs by name. Raises ModelError if the inputs do not fit.

        It may be called from any thread. Whether the outputs are finite is for the caller to check.
        """
        try:
            outputs = self._session.run(None, arrays)
        # onnxruntime's own exceptions have no common base but Exception.
        except Exception as error:
            raise ModelError(f"{self.card.name} could not run: {_first_line(error)}") from error
        return dict(zip(self.output_names, outputs, strict=True))

    def bound(self) -> BoundModel:
        """The model with inputs and outputs of its own, for many quick runs."""
        return BoundModel(self.card, self._session, self.input_shapes)


class ModelLibrary:
    """The shipped models and those in further folders, such as the user's own.

    Args:
        folders: further folders; a folder that does not exist holds no models.
        shipped: the folder of the shipped models; by default that of this installation.
        threads: threads that one model may use. One is best beside a running microscope, and for small models.
    """

    def __init__(
        self,
        folders: collections.abc.Iterable[pathlib.Path] = (),
        shipped: pathlib.Path | None = None,
        threads: int = 1,
    ) -> None:
        self.shipped = (shipped_folder() if shipped is None else shipped).resolve()
        self.folders = tuple(dict.fromkeys((self.shipped, *(folder.resolve() for folder in folders))))
        self._threads = threads
        self._loaded: dict[str, LoadedModel] = {}

    def list(self, kind: str | None = None) -> tuple[ModelEntry, ...]:
        """Every model of every folder, shipped ones first, with its card or the reason for its refusal; never raises.

        With a ``kind``, only models of that kind.
        """
        paths = dict.fromkeys(path for folder in self.folders for path in self._files(folder))
        entries = (self._entry(path) for path in paths)
        return tuple(entry for entry in entries if kind is None or (entry.card and entry.card.kind == kind))

    def load(self, source: str | pathlib.Path, kind: str | None = None) -> LoadedModel:
        """Verify and load a model, by the path of an ``.onnx`` file, the name on its card or its file's name.

        Raises ModelError if there is none, if it is refused, or if it is not of the ``kind``.
        """
        is_path = isinstance(source, pathlib.Path) or source.endswith(".onnx")
        path = pathlib.Path(source) if is_path else self._find_name(str(source), kind)
        try:
            model, digest = self._read(path)
            if digest not in self._loaded:
                self._loaded[digest] = LoadedModel(model, path, self._threads)
        except ModelError as error:
            raise ModelError(f"{path.name}: {error}") from error
        loaded = self._loaded[digest]
        if kind is not None and loaded.card.kind != kind:
            raise ModelError(f"{path.name}: expected a model of the kind {kind}, found {loaded.card.kind}.")
        return loaded

    def find(self, sha256: str, name: str = "") -> LoadedModel:
        """Load the model with this hash, whatever it is called now. Raises ModelError that names a missing one."""
        for entry in self.list():
            if entry.sha256 == sha256:
                return self.load(entry.path)
        places = ", ".join(str(folder) for folder in self.folders)
        raise ModelError(f"The model {name or 'of a run'} with the SHA-256 {sha256} is in none of {places}.")

    def _find_name(self, name: str, kind: str | None) -> pathlib.Path:
        entries = self.list()
        matches = {entry.sha256: entry.path for entry in entries if name in (entry.name, entry.path.stem)}
        if len(matches) > 1:
            raise ModelError(f"{len(matches)} models are named {name!r}: {', '.join(map(str, matches.values()))}.")
        if not matches:
            fitting = (entry.name for entry in entries if entry.card and kind in (None, entry.card.kind))
            names = "; ".join(dict.fromkeys(fitting)) or "none"
            raise ModelError(f"There is no model named {name!r}; there are: {names}.")
        return next(iter(matches.values()))

    def _files(self, folder: pathlib.Path) -> collections.abc.Iterable[pathlib.Path]:
        listed: collections.abc.Iterable[str] = ()
        if folder == self.shipped:
            # A list that cannot be read refuses every shipped model by name below.
            with contextlib.suppress(ModelError):
                listed = read_sums(folder)
        return sorted({*folder.glob("*.onnx"), *(folder / name for name in listed)})

    def _entry(self, path: pathlib.Path) -> ModelEntry:
        entry = ModelEntry(path, path.parent == self.shipped)
        try:
            model, digest = self._read(path)
            entry = dataclasses.replace(entry, sha256=digest)
            return dataclasses.replace(entry, card=_checked_card(model, digest))
        except ModelError as error:
            return dataclasses.replace(entry, refusal=str(error))

    def _read(self, path: pathlib.Path) -> tuple[bytes, str]:
        """The bytes of a model and their hash, the size and a shipped model's hash checked."""
        model = _read_file(path)
        digest = hashlib.sha256(model).hexdigest()
        if path.resolve().parent == self.shipped:
            expected = read_sums(self.shipped).get(path.name, "none, it is not listed")
            if digest != expected:
                raise ModelError(f"The shipped model has the SHA-256 {digest}; expected {expected}.")
        return model, digest


def add_model(
    source: pathlib.Path, card_json: str | None, destination: pathlib.Path, replace: bool = False
) -> LoadedModel:
    """Give a user's ONNX file a card, verify it, and only then write it into the folder ``destination``.

    Args:
        source: the ONNX file; it stays as it is.
        card_json: the card; None keeps the one that the file has.
        destination: a folder of models; it is made if it does not exist.
        replace: whether a file of the same name there may be replaced.

    Raises:
        ModelError: if the model is refused or cannot be written; nothing has been written then.
    """
    model = _read_file(source)
    if card_json is not None:
        model = write_card(model, ModelCard.from_json(card_json))
    target = destination / source.name
    loaded = LoadedModel(model, target)
    if target.exists() and not replace:
        raise ModelError(f"There is a model {source.name} in {destination} already; replace it, or rename the file.")
    try:
        destination.mkdir(parents=True, exist_ok=True)
        _write_atomically(target, model)
    except OSError as error:
        raise ModelError(f"The model cannot be written to {target}: {error.strerror or error}.") from error
    return loaded


def shipped_folder() -> pathlib.Path:
    """The folder of the shipped models: within the installed package, or beside it in a source checkout."""
    package = pathlib.Path(__file__).parent
    folders = (package / "models", package.parent / "models")
    return next((folder for folder in folders if (folder / SUMS_NAME).is_file()), folders[0])


def read_sums(folder: pathlib.Path) -> dict[str, str]:
    """The SHA-256 by file name that ``folder`` lists, in the format of sha256sum. Raises ModelError."""
    try:
        lines = (folder / SUMS_NAME).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"The list of hashes {folder / SUMS_NAME} cannot be read: {_first_line(error)}") from error
    sums = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or pathlib.PurePath(name).name != name:
            raise ModelError(f"The list of hashes {folder / SUMS_NAME} has the line {line!r}; expected HASH  NAME.")
        sums[name] = digest
    return sums


def write_sums(folder: pathlib.Path) -> None:
    """List the SHA-256 of every model of the folder, each of them verified first. Raises ModelError."""
    lines = []
    for path in sorted(folder.glob("*.onnx")):
        try:
            lines.append(f"{LoadedModel(_read_file(path), path).sha256}  {path.name}\n")
        except ModelError as error:
            raise ModelError(f"{path.name}: {error}") from error
    _write_atomically(folder / SUMS_NAME, "".join(lines).encode())


_cards: dict[str, ModelCard] = {}
"""Cards by the hash of bytes that have been checked: the same bytes need not be checked again."""


def _checked_card(model: bytes, digest: str) -> ModelCard:
    if digest not in _cards:
        model_checks.check_file(model)
        _cards[digest] = read_card(model)
    return _cards[digest]


def _read_file(path: pathlib.Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path} is no file; expected an ONNX file.")
        if size > SIZE_LIMIT_BYTES:
            raise ModelError(f"The model has {size} bytes; expected at most {SIZE_LIMIT_BYTES}.")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror or error}.") from error


def _write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write a file so that there is either the old one or the whole new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.close()
            # A temporary file is for its owner only.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(file.name, 0o666 & ~umask)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Errors are raised; they need not be written to the terminal as well.
    options.log_severity_level = 4
    # onnxruntime takes bytes with a certain mark for its own format, which nothing has checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # onnxruntime's own exceptions have no common base but Exception.
    except Exception as error:
        raise ModelError(f"onnxruntime refuses the model: {_first_line(error)}") from error


def _tensor_info(tensor: typing.Any) -> model_checks.TensorInfo:
    shape = tuple(side if isinstance(side, int) else None for side in tensor.shape)
    return model_checks.TensorInfo(tensor.name, shape, tensor.type)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


if __name__ == "__main__":
    write_sums(shipped_folder())
