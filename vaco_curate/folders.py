"""Run folders and output folders: found, created and replaced without ever losing a finished one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaco_curate.errors import RunError
from vaco_curate.manifest import FILE_NAME, read_manifest

RUN = "run"
CURATED = "curated"


def run_folder_for(source: str) -> Path:
    """Default run folder, in the current directory: ``hopper.hdf5`` -> ``hopper.vaco``."""
    path = Path(source)
    stem = path.stem if path.suffix in {".hdf5", ".h5", ".parquet"} else path.name
    return Path(f"{stem}.vaco")


def is_complete(folder: Path, kind: str) -> bool:
    """Whether the folder holds a finished result of the given kind."""
    try:
        facts = read_manifest(folder)
    except RunError:
        return False
    return facts.get("kind") == kind and facts.get("complete") is True


def newest_run(directory: Path = Path()) -> Path:
    """The complete run folder in ``directory`` that was finished last.

    Raises:
        RunError: there is none; says so when one is unfinished.
    """
    folders = [path.parent for path in directory.glob(f"*/{FILE_NAME}")]
    complete = [folder for folder in folders if is_complete(folder, RUN)]
    if complete:
        return max(complete, key=lambda folder: ((folder / FILE_NAME).stat().st_mtime_ns, folder.name))
    unfinished = [str(folder) for folder in folders if read_manifest(folder).get("kind") == RUN]
    raise RunError(
        "no finished run folder in the current directory",
        details=tuple(f"unfinished: {name}" for name in unfinished),
        fix="vaco-curate score DATASET --resume"
        if unfinished
        else "vaco-curate score DATASET, or name a RUN folder",
    )


def require_run(folder: Path) -> Path:
    """The folder, if it holds a finished run.

    Raises:
        RunError: missing, of another kind, or unfinished.
    """
    facts = read_manifest(folder)
    if facts.get("kind") != RUN:
        raise RunError(f"{folder}: holds {facts.get('kind')!r}, not a scoring run")
    if facts.get("complete") is not True:
        raise RunError(
            f"{folder}: the run is not finished",
            fix=f"vaco-curate score {facts['dataset']['source']} --out {folder} --resume",
        )
    return folder


def refuse_existing(folder: Path, *, force: bool) -> None:
    """Refuse an output folder that is in the way; with ``force`` only one that is not ours.

    Raises:
        RunError: it exists without ``force``, or holds something vaco-curate did not write.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise RunError(f"{folder} exists already", fix="give --force to replace it, or another --out")
    if not (folder / FILE_NAME).is_file():
        raise RunError(
            f"{folder} was not written by vaco-curate (it has no {FILE_NAME}), it will not be replaced",
            fix="give another --out, or remove it yourself",
        )


@contextmanager
def replaced_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """A fresh folder to fill, which takes the place of ``folder`` when the block succeeds.

    On any failure (disk full, interrupt, bug) the fresh folder is removed and ``folder`` is as
    it was before.

    Raises:
        RunError: as ``refuse_existing``.
    """
    refuse_existing(folder, force=force)
    unfinished = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        put_in_place(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def put_in_place(finished: Path, folder: Path) -> None:
    """Rename ``finished`` to ``folder``; what stood there is removed only after that has worked."""
    previous = folder.with_name(f".{folder.name}.previous")
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    try:
        finished.rename(folder)
    except OSError:
        if previous.exists():
            previous.rename(folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)
