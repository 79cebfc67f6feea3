"""The stage behind ``vaco-curate verify``: whether a folder still is what its manifest says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaco_curate.errors import RunError
from vaco_curate.stages.words import counted
from vaco_curate.store.files import FolderLike, place
from vaco_curate.store.folders import AFTERWARDS, CONVERTED, CURATED, EVALUATED_POLICY, RUN
from vaco_curate.store.manifest import FILE_NAME, hash_file, hash_source, read_manifest


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        what: a file, the dataset, or the run.
        state: "as recorded", or what is wrong.
        good: whether it is as recorded; None where it could not be checked, for it is not here.
    """

    what: str
    state: str
    good: bool | None


@dataclass(frozen=True)
class Verification:
    """What a folder's manifest says, held against its files and what they come from."""

    folder: Path
    kind: str
    checks: list[Check]

    def __repr__(self) -> str:
        found = f"{len(self.failed)} of {counted(len(self.checks), 'check')} failed"
        if not self.failed:
            found = f"{counted(len(self.checks), 'check')}, none failed"
        unchecked = sum(check.good is None for check in self.checks)
        found += f", {unchecked} could not be made" if unchecked else ""
        return f"<Verification {self.folder}: {self.kind}, {found}>"

    @property
    def failed(self) -> list[Check]:
        """Checks that found something changed or missing."""
        return [check for check in self.checks if check.good is False]


def verify_folder(folder: FolderLike) -> Verification:
    """Check the files of a folder, and all that it comes from where that is still there, and so on.

    Of a run that has not changed, and of what that comes from, only what is wrong is told.

    Raises:
        RunError: no folder of ours, or an unfinished one.
    """
    folder = place(folder)
    manifest = _verifiable(folder)
    return Verification(folder, manifest["kind"], list(_checks(folder, manifest, set())))


def _verifiable(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    kind = manifest.get("kind")
    if kind not in (RUN, CURATED, CONVERTED):
        raise RunError(f"{folder}: holds {kind!r}, of which no hashes are recorded")
    if manifest.get("complete") is not True:
        raise RunError(f"{folder}: is not finished")
    return manifest


def _checks(folder: Path, manifest: dict[str, Any], seen: set[str]) -> Iterator[Check]:
    """Checks of a folder and of what it comes from; nothing is checked twice.

    Args:
        seen: paths that have been checked; grows.
    """
    yield from _files(folder, manifest["files"])
    yield from _dataset(manifest["dataset"], seen)
    parents = {
        "dataset": manifest["dataset"]["parent"],
        "run": manifest.get("run"),
        "scorer": manifest.get("scorer_from"),
    }
    for name, recorded in parents.items():
        if recorded is not None and recorded["folder"] not in seen:
            seen.add(recorded["folder"])
            found = _parent(name, recorded)
            yield found
            if found.good:
                yield from _wrong_in(found.what, place(recorded["folder"]), seen)


def _wrong_in(what: str, folder: Path, seen: set[str]) -> Iterator[Check]:
    """What is not as recorded in a folder that another comes from, and in those that it comes from."""
    try:
        checks = list(_checks(folder, _verifiable(folder), seen))
    except RunError as error:
        checks = [Check("manifest", error.problem, False)]
    yield from (Check(f"{what}: {inner.what}", inner.state, inner.good) for inner in checks if not inner.good)


def _files(folder: Path, recorded: list[dict[str, Any]]) -> Iterator[Check]:
    known = {file["name"]: file for file in recorded}
    here = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name, facts in known.items():
        if name not in here:
            yield Check(name, "missing", False)
        else:
            same = hash_file(here[name], relative_to=folder) == facts
            yield Check(name, "as recorded" if same else "changed", same)
    for name in sorted(here.keys() - known.keys() - AFTERWARDS - {FILE_NAME}):
        if not name.startswith(f"{EVALUATED_POLICY}/"):
            yield Check(name, "not in the manifest", False)


def _dataset(facts: dict[str, Any], seen: set[str]) -> Iterator[Check]:
    for recording in facts["recordings"]:
        if recording["path"] in seen:
            continue
        seen.add(recording["path"])
        path = place(recording["path"])
        if not (path.is_file() or path.is_dir()):  # a device or a pipe has no end
            yield Check(f"dataset {path}", "no longer here, not checked", None)
            continue
        same = hash_source(path, {})["files"] == recording["files"]
        yield Check(f"dataset {path}", "as recorded" if same else "changed since", same)


def _parent(name: str, recorded: dict[str, Any]) -> Check:
    """A folder of ours that another comes from, by its manifest."""
    folder = place(recorded["folder"])
    what = f"{name} {folder}"
    if not (folder / FILE_NAME).is_file():
        return Check(what, "no longer here, not checked", None)
    same = hash_file(folder / FILE_NAME, relative_to=folder) == recorded["manifest"]
    return Check(what, "as recorded" if same else "another by now", same)
