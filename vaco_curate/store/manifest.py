"""``_manifest.json``: where a folder's contents came from, and the mark that it is complete."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vaco_curate.errors import RunError
from vaco_curate.store.files import write_atomically
from vaco_curate.store.shapes import misshapen

FILE_NAME = "_manifest.json"
TIMES_FILE = "_times"
"""All that differs between the outputs of the same command, given twice. It is JSON, but not called so: where
there are more ``.json`` files than ``.parquet``, HuggingFace's ``datasets`` reads those as the rows."""
UNFINISHED = ".partial"
"""Suffix of the folder that a run trains in."""
MADE_BY = "vaco-curate"
HASH = "sha256"
"""Key of the hash of a file, and of that of all other facts in a manifest."""
AGAIN = "give the command again that wrote it, with --if-exists replace"
REPAIR = f"copy it again from where it is whole, or {AGAIN}"
PACKAGES = ("vaco-curate", "torch", "numpy", "pyarrow", "polars", "h5py", "minari", "gymnasium")


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write the facts, signed as ours, with a hash of themselves."""
    facts = {"made_by": MADE_BY, **facts}
    write_atomically(folder / FILE_NAME, _as_text(facts | {HASH: _hash_of(facts)}))


def _as_text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=2) + "\n"


def _hash_of(facts: dict[str, Any]) -> str:
    return hashlib.sha256(_as_text(facts).encode()).hexdigest()


def write_times(folder: Path, facts: Mapping[str, Any]) -> None:
    """Say when a folder's contents were made, beside the manifest, which holds no times."""
    write_atomically(folder / TIMES_FILE, _as_text({**read_times(folder), **facts}))


def read_times(folder: Path) -> dict[str, Any]:
    """When a folder's contents were made; empty where nobody knows."""
    try:
        facts = json.loads((folder / TIMES_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def read_manifest(folder: Path, *, damaged_too: bool = False) -> dict[str, Any]:
    """The manifest of a folder that vaco-curate wrote.

    Args:
        damaged_too: also one that does not match its own hash, to say what the folder was.

    Raises:
        RunError: there is none, it is damaged, or another program or version wrote it.
    """
    path = folder / FILE_NAME
    try:
        facts = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        what = f"not a folder that vaco-curate wrote, it has no {FILE_NAME}"
        problem = what if folder.exists() else "there is no such folder"
        raise RunError(f"{folder}: {problem}", fix=_fix_of_missing(folder)) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not readable", details=(str(error),)) from error
    if not isinstance(facts, dict) or facts.get("made_by") != MADE_BY:
        raise RunError(f"{folder}: not a folder that vaco-curate wrote, {FILE_NAME} is another program's")
    if damaged_too:
        facts.pop(HASH, None)
        return facts
    if facts.pop(HASH, None) != _hash_of(facts):
        raise RunError(f"{path}: damaged, it does not match its own hash", fix=REPAIR)
    wrong = misshapen(facts)
    if wrong is not None:
        raise RunError(
            f"{path}: not as this version of vaco-curate writes it: {wrong}",
            fix=AGAIN,
        )
    return facts


def _fix_of_missing(folder: Path) -> str:
    unfinished = folder.absolute().with_name(f"{folder.absolute().name}{UNFINISHED}")
    if (unfinished / FILE_NAME).is_file():
        return f"the run is not finished: give the command again that began it, with --resume ({unfinished})"
    if not folder.exists():
        return "check the path; vaco-curate score DATASET makes a run"
    if folder.is_file():
        return f"score it first: vaco-curate score {folder}"
    return "name a folder that score, filter, reweight or convert wrote"


def is_ours(folder: Path) -> bool:
    """Whether a folder holds a manifest of ours, whole or damaged."""
    try:
        read_manifest(folder, damaged_too=True)
    except RunError:
        return False
    return True


def check_files(
    folder: Path, manifest: dict[str, Any], parts: Collection[str] | None = None
) -> dict[Path, str]:
    """Refuse files that are not as their manifest recorded them.

    Args:
        parts: folders in ``folder`` whose files are read next; None for all.

    Returns:
        SHA-256 of these files, for ``hash_source``.

    Raises:
        RunError: a file is missing or has changed.
    """
    found = {}
    for recorded in manifest.get("files", ()):
        if parts is None or recorded["name"].partition("/")[0] in parts:
            path = folder / recorded["name"]
            if not path.is_file():
                raise RunError(f"{path}: missing", fix=REPAIR)
            if hash_file(path, relative_to=folder) != recorded:
                raise RunError(f"{path}: changed since it was written", fix=REPAIR)
            found[path.absolute()] = str(recorded[HASH])
    return found


def hash_source(path: Path, known: Mapping[Path, str]) -> dict[str, Any]:
    """Files of a file or folder with sizes and SHA-256, for provenance.

    Args:
        known: hashes of files that were read for them already, by absolute path.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    hashes = [hash_file(file, relative_to=root, known=known.get(file.absolute())) for file in files]
    return {"path": str(path.resolve()), "files": hashes}


def hashes_of(dataset: Mapping[str, Any]) -> list[list[str]]:
    """SHA-256 of the files of each recording of a dataset, of which a manifest holds the facts."""
    return [[file[HASH] for file in recording["files"]] for recording in dataset["recordings"]]


def hash_folder(folder: Path, *, without: Collection[str] = ()) -> list[dict[str, Any]]:
    """Names, sizes and SHA-256 of all files in a folder but its manifest and its times.

    Args:
        without: names of further files to leave out.
    """
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=str)
    own = (FILE_NAME, TIMES_FILE)
    without = {*own, *(f"{name}{UNFINISHED}" for name in own), *without}  # a killed command leaves such ones
    return [hash_file(path, relative_to=folder) for path in files if path.name not in without]


def hash_file(path: Path, *, relative_to: Path, known: str | None = None) -> dict[str, Any]:
    """Name, size in bytes and SHA-256 of a file.

    Args:
        known: the hash, if the file was read for it already.
    """
    if known is None:
        with path.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.relative_to(relative_to).as_posix(), "bytes": path.stat().st_size, HASH: known}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """UTC time, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
