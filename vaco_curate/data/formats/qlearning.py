"""One ``.npz`` file of the arrays that D4RL's ``qlearning_dataset`` returns, with weights and row numbers."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.formats.d4rl_writer import flat_columns
from vaco_curate.data.formats.others import OWN_NAMES, stored_values
from vaco_curate.data.formats.writing import Target
from vaco_curate.errors import DatasetError

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Of every file in the archive, so that its bytes depend on its rows alone."""

COPY_BYTES = 1 << 22


class QlearningWriter:
    """``writing.RowsWriter``: the rows with a Bellman target, each with its own next observation.

    The arrays ``observations, actions, rewards, terminals, next_observations`` are those of D4RL; ``timeouts``
    is true where the next row is not the successor; ``weights`` are 1 where there are none; ``index`` is the
    raw row number; ``return_range`` that of the source. Further columns lie under ``infos/``.
    """

    def __init__(self, target: Target) -> None:
        self._path = target.folder / f"{target.names[0]}.npz"
        self._returns = np.asarray(target.facts.get("return_range", ()), np.float64)
        self._arrays: dict[str, _GrowingArray] = {}
        self._left_out = 0

    def write(self, piece: Transitions, rows: Array, extra: Mapping[str, Array | pa.Array]) -> None:
        """As the protocol; rows without a target are left out."""
        chosen = np.flatnonzero(piece.is_learnable[rows])
        self._left_out += len(rows) - len(chosen)
        further = {name: stored_values(name, column)[chosen] for name, column in extra.items()}
        weights = further.pop("weight", np.ones(len(chosen), np.float32))
        columns = {
            **flat_columns(piece, rows[chosen]),
            "weights": weights,
            "index": (piece.first_row + rows[chosen]).astype(np.int64),
            **{_name(name): values for name, values in further.items()},
        }
        for name, values in columns.items():
            if name not in self._arrays:
                self._arrays[name] = _GrowingArray(self._path.parent, values)
            self._arrays[name].append(values)

    @property
    def notes(self) -> tuple[str, ...]:
        """How many rows were left out."""
        if not self._left_out:
            return ()
        return (f"{self._left_out} row(s) are left out: no true end, and their successor is not known",)

    def close(self) -> None:
        """As the protocol.

        Raises:
            DatasetError: no row has a target.
        """
        if not self._arrays or not self._arrays["rewards"].rows:
            raise DatasetError(
                "none of these rows has a Bellman target: no true end, and no successor that is known",
                fix="choose another --format, such as parquet",
            )
        with zipfile.ZipFile(self._path, "w", allowZip64=True) as archive:
            for name, array in self._arrays.items():
                info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
                if array.holds_words:  # of one length, so mostly zeros
                    info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w", force_zip64=True) as member:
                    array.copy_to(member)
            if self._returns.size:
                with archive.open(zipfile.ZipInfo("return_range.npy", EPOCH), "w") as member:
                    np.lib.format.write_array(member, self._returns)


def _name(name: str) -> str:
    """Of our columns as they are; of the source's in a folder, where no name of D4RL's can be hidden."""
    return name if name in OWN_NAMES or name.startswith("infos/") else f"infos/{name}"


class _GrowingArray:
    """Rows that are appended one after the other in a file without a name."""

    def __init__(self, folder: Path, first: Array) -> None:
        self._shape, self._type, self.rows = first.shape[1:], first.dtype, 0
        self._file: IO[Any] = TemporaryFile(dir=folder)  # noqa: SIM115 (closed when it has been copied)

    @property
    def holds_words(self) -> bool:
        """Whether it is one of bytes."""
        return self._type.kind == "S"

    def append(self, values: Array) -> None:
        assert values.shape[1:] == self._shape, "types are settled before the first row"
        self.rows += len(values)
        self._file.write(np.ascontiguousarray(values, self._type).tobytes())

    def copy_to(self, member: IO[bytes]) -> None:
        header = {"descr": self._type.str, "fortran_order": False, "shape": (self.rows, *self._shape)}
        np.lib.format.write_array_header_1_0(member, header)
        self._file.seek(0)
        while block := self._file.read(COPY_BYTES):
            member.write(block)
        self._file.close()
