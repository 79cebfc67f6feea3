"""Where a dataset lies that is to be scored, also where it is in memory, and what its run is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vaco_curate.data.formats import ReadOptions, open_dataset
from vaco_curate.data.formats.in_memory import Source, is_address, named_in_memory, written
from vaco_curate.errors import CurateError, SettingsError
from vaco_curate.store.files import FolderLike, address_of, beside, is_local, lies_in, place, sync
from vaco_curate.store.folders import run_folder_for, run_stem
from vaco_curate.store.manifest import HASH, hash_file


@dataclass(frozen=True)
class Settled:
    """The address of a dataset, and the folder of its run.

    Attributes:
        written: the file of a dataset in memory, if it was not there before.
    """

    address: str
    run: Path
    written: Path | None = None

    @contextmanager
    def removed_if_refused(self, needed: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Leave no file of a dataset in memory behind that nothing came of.

        Args:
            needed: whether there is something already that goes with the file.
        """
        try:
            yield
        except CurateError:
            if self.written is None or needed():
                raise
            self.written.unlink(missing_ok=True)
            with named_in_memory(self.written):
                raise


def settled(source: Source, out: FolderLike | None, options: ReadOptions | None) -> Settled:
    """Where a dataset is to be read, and its run to lie.

    One in memory is read through, and written to a file beside the run, for later commands read it again. The
    file is named after what is in it (``play-1a2b3c4d.hdf5``): none is ever replaced by another.

    Args:
        out: the run; None for ``NAME.vaco`` in the current directory.

    Raises:
        SettingsError: a dataset in memory needs the name of a run, here.
        DatasetError: it cannot be written, or not be read as a dataset.
    """
    if is_address(source):
        address = address_of(source)
        return Settled(address, place(out) if out is not None else run_folder_for(address))
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
            return Settled(str(fresh), run)
        digest = hash_file(fresh, relative_to=fresh.parent)[HASH][:8]
        path = stem.with_name(f"{stem.name}-{digest}{fresh.suffix}")
        was_there = path.exists()
        sync(fresh)
        fresh.replace(path)
        sync(path.parent)
    return Settled(str(path), run, None if was_there else path)
