"""What a writer of rows does: it takes pieces of a dataset in order, and writes of each the rows it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from vaco_curate.core.transitions import Array, Transitions


@dataclass(frozen=True)
class Target:
    """Where rows go.

    Attributes:
        folder: to write to; it exists and is empty.
        names: without suffix, one for each recording of the dataset.
        rows: of each recording; raw row numbers run through all of them.
        facts: about the rows, to be kept with them where the format can.
        first_row: raw row number of the first.
    """

    folder: Path
    names: Sequence[str]
    rows: Sequence[int]
    facts: Mapping[str, Any]
    first_row: int = 0


class RowsWriter(Protocol):
    """Writes rows in their order."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the format could not hold, in plain words; complete after ``close``."""

    def write(self, piece: Transitions, rows: Array, extra: Mapping[str, Array | pa.Array]) -> None:
        """Write some rows of the next piece.

        Args:
            rows: (m,) positions in the piece, increasing.
            extra: further columns, (m,) each.

        Raises:
            DatasetError: the format cannot hold these rows.
        """

    def close(self) -> None:
        """Finish all files."""


@dataclass(frozen=True)
class Writable:
    """A format that rows can be written in.

    Attributes:
        writer: makes a writer.
        one_file: all rows go into one dataset, whatever files they come from.
        in_stores: it can be written to an object store; the others need files that can be changed in place.
        plain: further columns are arrays of numbers or words, without nulls.
    """

    writer: Callable[[Target], RowsWriter]
    one_file: bool = False
    in_stores: bool = False
    plain: bool = True
