"""Where a dataset lies that is to be scored, also where it is in memory, and what its run is called."""

from __future__ import annotations

import filecmp
from pathlib import Path
from tempfile import TemporaryDirectory

from vaco_curate.data.formats.in_memory import Source, is_address, written
from vaco_curate.errors import RunError, SettingsError
from vaco_curate.store.files import beside, is_local, lies_in, place, sync
from vaco_curate.store.folders import RUN, is_complete, run_folder_for, run_stem
from vaco_curate.store.manifest import read_manifest


def named(source: Source, out: str | Path | None, *, force: bool) -> tuple[str, Path]:
    """The address of a dataset, and the folder of its run.

    One in memory is written to a file beside the run, for later commands read it again.

    Args:
        out: the run; None for ``NAME.vaco`` in the current directory.
        force: replace such a file of an earlier run of this name.

    Raises:
        SettingsError: a dataset in memory needs the name of a run, here.
        DatasetError: as ``in_memory.written``.
        RunError: another file is in the way.
    """
    if is_address(source):
        return str(source), place(out) if out is not None else run_folder_for(str(source))
    if out is None or not is_local(place(out)):
        raise SettingsError(
            "a dataset in memory has no name to call the run by",
            fix='say where the run is to lie: out="x.vaco"',
        )
    run = place(out)
    stem = beside(run, run_stem(run))
    with TemporaryDirectory(prefix=".vaco-curate-", dir=stem.parent) as folder:
        fresh = written(source, Path(folder) / stem.name)
        if not lies_in(fresh, Path(folder)):
            return str(fresh), run
        path = stem.with_name(fresh.name)
        if path.exists() and not filecmp.cmp(fresh, path, shallow=False) and not (force and _of(run, path)):
            raise RunError(
                f"{path} exists already, and holds other rows than the dataset in memory",
                fix="choose another out, or remove the file",
            )
        sync(fresh)
        fresh.replace(path)
        sync(path.parent)
    return str(path), run


def _of(run: Path, path: Path) -> bool:
    """Whether a run was made from this file."""
    return is_complete(run, RUN) and bool(read_manifest(run)["dataset"]["address"] == str(path.resolve()))
