"""Run folders and output folders: found, created and replaced without ever losing a finished one."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from vaco_curate.errors import RunError, SettingsError
from vaco_curate.store import interrupts
from vaco_curate.store.files import (
    exchanged,
    hidden,
    is_local,
    lies_in,
    naming_full_disk,
    remove,
    sync,
    sync_tree,
)
from vaco_curate.store.locks import locked
from vaco_curate.store.manifest import (
    FILE_NAME,
    TIMES_FILE,
    UNFINISHED,
    check_files,
    read_manifest,
    write_manifest,
)
from vaco_curate.store.requests import difference, label

CHECKPOINT_FILE, EVALUATED_POLICY = "checkpoint.safetensors", "evaluated_policy"
AFTERWARDS = frozenset({"evaluations.json", "report.html", CHECKPOINT_FILE, TIMES_FILE})
"""What later commands add to a run, and what a training that was killed at its very end has left in it."""

IfExists = Literal["fail", "skip", "replace"]
"""What to do where an output exists: refuse, leave it if it is what is asked for, or replace it."""

RUN = "run"
CURATED = "curated"
CONVERTED = "converted"
DEMO = "demo"

IN_THE_WAY = "give --if-exists replace to replace it, or another --out"
FINISHED = (
    "give --if-exists skip to leave it if it is what is asked for, --if-exists replace to replace it, or "
    "another --out"
)
FRESH, PREVIOUS, SCRATCH = "fresh", "previous", "scratch"
"""Hidden folders beside an output that is being made: the new one, the old one, and what nobody keeps."""


def run_stem(run_folder: Path) -> str:
    """``hopper`` for ``hopper.vaco``."""
    return run_folder.resolve().name.removesuffix(".vaco")


def run_folder_for(source: str) -> Path:
    """Default run folder, in the current directory: ``hopper.hdf5`` -> ``hopper.vaco``.

    Raises:
        SettingsError: the dataset is the current directory or one above it, and a run does not lie in its
            dataset.
    """
    path = Path(source)
    if path.name in ("", ".."):
        beside = path.resolve().with_name(f"{path.resolve().name}.vaco")
        raise SettingsError(
            f"{source}: a run is written to the current folder, and this one is the dataset",
            fix=f"say where the run is to lie: --out {beside}",
        )
    stem = path.stem if path.suffix in {".hdf5", ".h5", ".parquet", ".npz"} else path.name
    if re.search(r"[*?\[]", str(path)):  # of a pattern, what its files share
        plain = itertools.takewhile(lambda part: not re.search(r"[*?\[]", part), path.parts)
        stem = re.split(r"[*?\[]", stem)[0].rstrip("-_.") or Path(*plain).resolve().name
    return Path(f"{stem}.vaco")


def unfinished_folder(run_folder: Path) -> Path:
    """Where a run is trained until it is complete."""
    target = run_folder.resolve()
    return target.with_name(f"{target.name}{UNFINISHED}")


def is_complete(folder: Path, kind: str, *, damaged_too: bool = False) -> bool:
    """Whether the folder holds a finished result of the given kind."""
    facts = _manifest_or_none(folder, damaged_too=damaged_too)
    return facts is not None and facts.get("kind") == kind and facts.get("complete") is True


def newest_run(directory: Path = Path()) -> Path:
    """The complete run folder in ``directory`` that was finished last.

    Raises:
        RunError: there is none; says so when one is unfinished.
    """
    folders = [path.parent for path in directory.glob(f"*/{FILE_NAME}") if not path.parent.name.startswith(".")]
    named = [folder for folder in folders if folder.suffix != UNFINISHED]
    complete = [folder for folder in named if is_complete(folder, RUN, damaged_too=True)]  # refused when opened
    if complete:
        return max(complete, key=lambda folder: ((folder / FILE_NAME).stat().st_mtime_ns, folder.name))
    unfinished = [
        str(folder) for folder in folders if folder.suffix == UNFINISHED and _manifest_or_none(folder)
    ]
    raise RunError(
        "no finished run folder in the current directory",
        details=tuple(f"unfinished: {name}" for name in unfinished),
        fix="vaco-curate score DATASET --resume"
        if unfinished
        else "vaco-curate score DATASET, or name a RUN folder",
    )


def _manifest_or_none(folder: Path, *, damaged_too: bool = False) -> dict[str, Any] | None:
    try:
        return read_manifest(folder, damaged_too=damaged_too)
    except RunError:
        return None


def require_run(folder: Path) -> Path:
    """The folder, if it holds a finished run.

    Raises:
        RunError: missing, of another kind, or unfinished.
    """
    facts = read_manifest(folder)
    if facts.get("kind") != RUN:
        raise RunError(
            f"{folder}: holds {facts.get('kind')!r}, not a scoring run", fix=f"vaco-curate score {folder}"
        )
    if facts.get("complete") is not True:
        fix = "give the command that writes it again"
        if "dataset" in facts:  # a training, and no scorer that is applied
            fix = f"vaco-curate score {facts['dataset']['source']} --out {_finished_name(folder)} --resume"
        raise RunError(f"{folder}: the run is not finished", fix=fix)
    return folder


def _finished_name(folder: Path) -> Path:
    return folder.with_suffix("") if folder.suffix == UNFINISHED else folder


def check_if_exists(value: str) -> None:
    """Refuse anything but ``IfExists``."""
    if value not in get_args(IfExists):
        raise SettingsError(f"--if-exists {value}: unknown", fix=f"choose from {', '.join(get_args(IfExists))}")


def finished_as_asked(folder: Path, kind: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of a finished output that was made for the same request, whole; None if there is none.

    Args:
        request: inputs, by their hashes, and settings, as JSON can hold them.

    Raises:
        RunError: what is there was made for another request, or is damaged.
    """
    facts = _manifest_or_none(folder, damaged_too=True)
    if facts is None or facts.get("kind") != kind or facts.get("complete") is not True:
        return None
    facts = read_manifest(folder)
    made, asked = facts.get("request", {}), json.loads(json.dumps(request))
    others = [name for name in asked if made.get(name) != asked[name]]
    if others:
        raise RunError(
            f"{folder} exists already, and was made with other values of: "
            f"{', '.join(dict.fromkeys(map(label, others)))}",
            details=tuple(difference(name, made.get(name), asked[name]) for name in others),
            fix=IN_THE_WAY,
        )
    check_files(folder, facts)
    return facts


def refuse_existing(folder: Path, kind: str, *, replace: bool) -> None:
    """Refuse an output folder that is in the way; with ``replace`` only what is not ours to replace.

    Raises:
        RunError: it exists without ``replace``, or does not hold what vaco-curate wrote of this kind.
    """
    if not folder.exists() or (folder.is_dir() and not _holds_anything(folder)):
        return
    if not is_local(folder) and (_manifest_or_none(folder) or {}).get("complete") is False:
        return  # begun, to be gone on with
    if not replace:
        is_result = kind != DEMO and is_complete(folder, kind, damaged_too=True)
        raise RunError(f"{folder} exists already", fix=FINISHED if is_result else IN_THE_WAY)
    facts = _manifest_or_none(folder, damaged_too=True)
    if facts is None:
        raise RunError(
            f"{folder} was not written by vaco-curate, it will not be replaced",
            fix="give another --out, or remove it yourself",
        )
    if facts.get("kind") != kind:
        raise RunError(
            f"{folder} holds {facts.get('kind')!r}, it will not be replaced by {kind!r}",
            fix="give another --out",
        )
    if kind != DEMO:  # the demo's folder is made of results, and is not replaced as a whole
        _refuse_nested(folder)
        _refuse_foreign(folder, facts)


def _holds_anything(folder: Path) -> bool:
    """Whether there is more than the manifest that a command wrote when it was killed."""
    return any(inner.name != f"{FILE_NAME}{UNFINISHED}" for inner in folder.iterdir())


def _refuse_nested(folder: Path) -> None:
    """Refuse to replace a folder in which other results of ours lie."""
    nested = [path.parent for path in folder.glob(f"*/**/{FILE_NAME}") if _manifest_or_none(path.parent)]
    if nested:
        raise RunError(
            f"{folder} also holds {nested[0].relative_to(folder)}, it will not be replaced",
            fix="move that away, or give another --out",
        )


def _refuse_foreign(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse to replace a finished folder to which somebody has added files."""
    if "files" not in manifest:
        return  # unfinished
    known = {file["name"] for file in manifest["files"]} | AFTERWARDS | {FILE_NAME}
    here = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    foreign = sorted(name for name in here if name not in known and not name.startswith(f"{EVALUATED_POLICY}/"))
    if foreign:
        raise RunError(
            f"{folder} also holds {foreign[0]}, which vaco-curate did not write, it will not be replaced",
            details=tuple(f"and {name}" for name in foreign[1:4]),
            fix="move that away, or give another --out",
        )


def refuse_overlap(folder: Path, sources: Mapping[str, Path]) -> None:
    """Refuse an output folder that is, or holds, something that is still needed.

    Args:
        sources: what must survive, by what to call it.

    Raises:
        RunError: the folder would replace one of them.
    """
    for name, source in sources.items():
        if lies_in(source, folder):
            raise RunError(f"{folder}: the output would replace {name} ({source})", fix="give another folder")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """``locked``, and without what killed commands have left beside the folder.

    Raises:
        RunError: another command is writing it.
    """
    with locked(folder):
        if is_local(folder):
            _restore(folder)
            for purpose in (FRESH, SCRATCH):
                remove(hidden(folder, purpose))
        with naming_full_disk(folder):
            yield


def discard(work: Path, folder: Path) -> None:
    """Remove what was begun for ``folder``, which the caller has ``alone``; a kill leaves all or none of it.

    The next command on ``folder`` removes the hidden rest.
    """
    if is_local(work) and work != hidden(folder, FRESH):
        work = work.rename(hidden(folder, FRESH))
    remove(work)


@contextmanager
def replaced_folder(folder: Path, kind: str, *, replace: bool) -> Iterator[Path]:
    """A fresh folder to fill, which takes the place of ``folder`` when the block succeeds.

    On any failure (disk full, interrupt, bug) the fresh folder is removed and ``folder`` is as it was before.
    What a killed command has left is removed by the next one.

    Raises:
        RunError: as ``refuse_existing``, or another command is writing the folder.
    """
    with alone(folder):
        refuse_existing(folder, kind, replace=replace)
        unfinished = hidden(folder, FRESH)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            put_in_place(unfinished, folder, kind, replace=replace)
        except BaseException:
            remove(unfinished)
            raise


@contextmanager
def work_folder(
    folder: Path, kind: str, request: dict[str, Any], *, replace: bool, keep: bool
) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``folder`` when the block succeeds.

    Args:
        request: what is being made, as JSON.
        keep: on a failure keep what is there, as ``NAME.shards.partial``, and go on with it the next time that
            the same is asked for; else as ``replaced_folder``. In an object store, where no folder can be
            renamed, it is always kept, and complete when its manifest says so.

    Raises:
        RunError: as ``refuse_existing``; or something else was being made there.
    """
    asked = json.loads(json.dumps({"kind": kind, "complete": False, "request": request}))
    if not is_local(folder):
        _begin(folder, folder, asked, replace=replace)
        yield folder
        return
    if not keep:
        with replaced_folder(folder, kind, replace=replace) as fresh:
            yield fresh
        return
    with alone(folder):
        work = folder.resolve().with_name(f"{folder.resolve().name}.shards{UNFINISHED}")
        _begin(work, folder, asked, replace=replace)
        yield work
        put_in_place(work, folder, kind, replace=replace)


def _begin(work: Path, folder: Path, asked: dict[str, Any], *, replace: bool) -> None:
    """Begin to fill ``work``, or go on if what is asked was begun there."""
    began = _manifest_or_none(work)
    if began is not None and began.get("complete") is False:
        if not replace and asked == {name: began.get(name) for name in asked}:
            return
        if not replace:
            raise RunError(
                f"{work} holds the unfinished output of another command",
                fix="give that command again, or start over with --if-exists replace",
            )
        discard(work, folder)
    if not is_local(folder) and folder.exists() and began is not None:
        raise RunError(
            f"{folder} exists already, and a folder in an object store cannot be replaced in one step",
            fix="remove it yourself, or give another --out",
        )
    refuse_existing(folder, asked["kind"], replace=replace)
    if work != folder and work.exists() and began is None:
        raise RunError(f"{work} was not written by vaco-curate", fix="give another --out, or remove it")
    remove(work)
    work.mkdir(parents=True, exist_ok=True)
    write_manifest(work, asked)


def put_in_place(finished: Path, folder: Path, kind: str, *, replace: bool) -> None:
    """Rename ``finished`` to ``folder``, once all of it is on the disk; what stood there is removed last.

    Raises:
        RunError: as ``refuse_existing``, for something that has appeared there in the meantime.
        KeyboardInterrupt: as ``interrupts.raise_received``.
    """
    refuse_existing(folder, kind, replace=replace)
    target = folder.resolve()
    sync_tree(finished)
    interrupts.raise_received()
    if not target.exists():
        finished.rename(target)
        sync(target.parent)
        return
    if exchanged(finished, target):
        sync(target.parent)
        discard(finished, folder)
        return
    previous = hidden(folder, PREVIOUS)
    remove(previous)
    try:
        target.rename(previous)
        finished.rename(target)
    except BaseException:
        _restore(folder)
        raise
    sync(target.parent)
    remove(previous)


def _restore(folder: Path) -> None:
    """After a command that was killed: give the old folder its name back, or remove it beside a new one."""
    target = folder.resolve()
    previous = hidden(folder, PREVIOUS)
    if previous.exists() and not target.exists():
        previous.rename(target)
    remove(previous)
