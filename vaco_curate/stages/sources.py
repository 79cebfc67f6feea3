"""Where a dataset lies that is to be scored, also where it is in memory, and what its run is called."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from vaco_curate.data.formats import ReadOptions, open_dataset
from vaco_curate.data.formats.in_memory import Source, is_address, named_in_memory, written
from vaco_curate.errors import SettingsError
from vaco_curate.store.files import beside, is_local, lies_in, place, sync
from vaco_curate.store.folders import run_folder_for, run_stem
from vaco_curate.store.manifest import HASH, hash_file


def settled(source: Source, out: str | Path | None, options: ReadOptions | None) -> tuple[str, Path]:
    """The address of a dataset, and the folder of its run.

    One in memory is read through, and written to a file beside the run, for later commands read it again. The
    file is named after what is in it (``play-1a2b3c4d.hdf5``): none is ever replaced by another.

    Args:
        out: the run; None for ``NAME.vaco`` in the current directory.

    Raises:
        SettingsError: a dataset in memory needs the name of a run, here.
        DatasetError: it cannot be written, or not be read as a dataset.
    """
    if is_address(source):
        return str(source), place(out) if out is not None else run_folder_for(str(source))
    if out is None:
        raise SettingsError(
            "a dataset in memory has no name to call the run by",
            fix='say where the run is to lie: out="x.vaco"',
        )
    run = place(out)
    if not is_local(run):
        raise SettingsError(
            f"{out}: a dataset in memory is scored on this machine", fix="copy the run afterwards"
        )
    stem = beside(run, run_stem(run))
    stem.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".vaco-curate-", dir=stem.parent) as folder:
        fresh = written(source, Path(folder) / stem.name)
        with named_in_memory(fresh):
            for _ in open_dataset(str(fresh), options).pieces():
                pass
        if not lies_in(fresh, Path(folder)):
            return str(fresh), run
        digest = hash_file(fresh, relative_to=fresh.parent)[HASH][:8]
        path = stem.with_name(f"{stem.name}-{digest}{fresh.suffix}")
        sync(fresh)
        fresh.replace(path)
        sync(path.parent)
    return str(path), run
