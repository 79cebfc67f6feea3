"""Scores of a dataset's rows, written unit by unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.fast import native
from vaco_curate.core.rewards import RewardUse, are_equal, magnitude
from vaco_curate.core.scorer import Scorer
from vaco_curate.core.training.arithmetic import device_name
from vaco_curate.core.transitions import Fingerprint, Transitions
from vaco_curate.data.formats import Dataset
from vaco_curate.data.formats.dataset import read_ahead
from vaco_curate.data.formats.tables import ShardedWriter
from vaco_curate.data.scores import ScoreTable, score_batch
from vaco_curate.data.successors import Findings
from vaco_curate.errors import DatasetError
from vaco_curate.stages.runs import SCORES_FOLDER
from vaco_curate.stages.shards import write_units
from vaco_curate.store.engines import Engine, JobResult
from vaco_curate.store.progress import advance, task


@dataclass(frozen=True)
class Scored:
    """What scoring gave.

    Attributes:
        scores: the table.
        found: facts of the dataset that reading all of it shows.
        one_return: whether there are several episodes, and all have the same return but for rounding.
        longest_episode: its rows.
        notes: what was assumed.
        device: where the scores were computed.
    """

    scores: ScoreTable
    found: dict[str, Any]
    one_return: bool
    longest_episode: int
    notes: tuple[str, ...]
    device: str


@dataclass(frozen=True)
class ScoreShards:
    """Scores a unit and writes its files.

    Attributes:
        units: of the dataset.
        load: gives the scorer, where the job is done.
        data: the dataset, where it has been read; the files are not read again.
    """

    units: Sequence[Dataset]
    load: Callable[[], Scorer]
    data: Transitions | None = None

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer, loaded once."""
        return self.load()

    def __call__(self, number: int, folders: Sequence[Path | None]) -> JobResult:
        """Score a unit; as ``WriteUnit``."""
        (folder,) = folders
        assert folder is not None
        return self._score(self.units[number], folder)

    def _score(self, unit: Dataset, folder: Path) -> JobResult:
        writer = ShardedWriter(
            [folder / f"{name}.parquet" for name in unit.shard_names],
            [recording.rows for recording in unit.recordings],
            unit.first_row,
        )
        fingerprint, returns, notes = Fingerprint(), [], dict[str, None]()
        findings, use, largest, longest = Findings(), RewardUse(), 0.0, 0
        for piece in read_ahead(fingerprint.over(self._pieces(unit, findings))):
            returns.append(piece.episode_return)
            use.add(piece)
            largest, longest = max(largest, magnitude(piece)), max(longest, int(piece.episode_length.max()))
            notes |= dict.fromkeys(note.on_command_line for note in piece.notes)
            batch = score_batch(piece, self.scorer.score(piece))
            writer.write(pa.Table.from_batches([batch]), batch.column("index").to_numpy())
            advance(len(piece))
        writer.close()
        episode_return = np.concatenate(returns)
        return {
            "rows": sum(recording.rows for recording in unit.recordings),
            "fingerprint": fingerprint.to_json(),
            "episodes": len(episode_return),
            "longest": longest,
            "returns": [float(episode_return.min()), float(episode_return.max()), largest],
            "findings": findings.to_json(),
            "rewards": use.to_json(),
            "notes": [*notes, *_notes_on_kernels(self.scorer)],
            "device": device_name(self.scorer.device),
        }

    def _pieces(self, unit: Dataset, findings: Findings) -> Iterator[Transitions]:
        """The rows of a unit, some episodes at a time; what was found in data that was read is in its notes."""
        if self.data is None:
            return unit.pieces(findings=findings)
        return self.data.pieces(unit.first_row, unit.first_row + len(unit))


def score_into(
    work: Path,
    dataset: Dataset,
    load: Callable[[], Scorer],
    reward_scale: float,
    *,
    data: Transitions | None = None,
    engine: Engine = "local",
    device: str = "cpu",
) -> Scored:
    """Score a dataset into a run folder, unit by unit.

    Args:
        load: gives the scorer, where units are scored.
        reward_scale: of the scorer.
        data: the dataset, where it has been read.
        engine, device: as for ``run_jobs``.

    Raises:
        CurateError: unusable data; as ``run_jobs``.
    """
    folder = work / SCORES_FOLDER
    folder.mkdir(exist_ok=True)
    units = dataset.units()
    if not units:
        raise DatasetError(f"{dataset.source}: the dataset has zero rows")
    writer = partial(ScoreShards, units, load, data)
    with task("scoring", len(dataset)):
        done = write_units(engine, writer, len(units), [folder], device=device)
    fingerprint, findings, use = Fingerprint(), Findings(), RewardUse()
    for facts in done:
        fingerprint.add_json(facts["fingerprint"])
        findings.add(Findings(**facts["findings"]))
        use.add_json(facts["rewards"])
    use.refuse_unused(dataset.source, dataset.success_flag)
    episodes = sum(facts["episodes"] for facts in done)
    lowest, highest, magnitude = (
        extreme(facts["returns"][number] for facts in done) for number, extreme in enumerate((min, max, max))
    )
    files = tuple(folder / f"{name}.parquet" for name in dataset.shard_names)
    return Scored(
        ScoreTable(files, fingerprint.hexdigest(), dataset.source, reward_scale),
        {"fingerprint": fingerprint.hexdigest(), "episodes": episodes},
        episodes > 1 and are_equal(lowest, highest, magnitude),
        max(facts["longest"] for facts in done),
        tuple(dict.fromkeys([*(note for facts in done for note in facts["notes"]), *findings.notes()])),
        ", ".join(sorted({facts["device"] for facts in done})),
    )


def _notes_on_kernels(scorer: Scorer) -> list[str]:
    if scorer.device.type != "cpu" or native.load() is not None:
        return []
    return [f"torch's own kernels were used, which are slower: {native.why_not()}"]
