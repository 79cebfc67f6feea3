"""Runs of ``score``, by a training or an applied scorer: what is asked of them, and what they found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from vaco_curate.core.advantage import Persistence
from vaco_curate.core.paths import LONGEST_PATH
from vaco_curate.core.scorer import Scorer
from vaco_curate.core.training.settings import TrainSettings
from vaco_curate.core.transitions import Array
from vaco_curate.curation.advice import ROW_SHARES, Kind, Standing, kind_of
from vaco_curate.curation.health import FEW_EPISODES, Sign, score_signs
from vaco_curate.curation.weights import (
    effective_episodes_of_best,
    effective_episodes_of_scores,
    sample_share_of_scores,
)
from vaco_curate.data.formats import Dataset, ReadOptions, open_dataset
from vaco_curate.data.formats.provenance import dataset_facts
from vaco_curate.data.scores import ScoreTable
from vaco_curate.errors import DatasetError
from vaco_curate.reporting.outcomes import outcome_signs, scored_outcomes
from vaco_curate.stages.runs import load_scores
from vaco_curate.stages.scoring import Scored
from vaco_curate.stages.words import counted, warned
from vaco_curate.store.folders import CHECKPOINT_FILE, RUN, refuse_overlap
from vaco_curate.store.manifest import (
    hash_folder,
    hashes_of,
    now,
    read_times,
    versions,
    write_manifest,
    write_times,
)
from vaco_curate.wording import Note, as_notes


@dataclass(frozen=True)
class ScoreResult:
    """What a scoring run gave.

    Attributes:
        run: the run folder.
        rows, episodes: of the dataset.
        members: scorers whose mean is the score.
        effective_sample_share: of the scorer's weights, in (0, 1].
        effective_episodes: that carry these weights.
        seconds: wall time by part.
        notes: what was assumed.
        warnings: signs that the scores are not worth trusting.
        proposed: the call to begin with; None where a warning speaks against the scores.
        source_format: of the dataset.
        skipped: the run was there already.
    """

    run: Path
    rows: int
    episodes: int
    members: int
    effective_sample_share: float
    effective_episodes: float
    seconds: dict[str, float]
    notes: tuple[Note, ...]
    warnings: tuple[Note, ...]
    proposed: Note | None
    source_format: str
    skipped: bool = False

    def __fspath__(self) -> str:
        return str(self.run)

    def __repr__(self) -> str:
        sizes = f"{counted(self.rows, 'row')} in {counted(self.episodes, 'episode')}"
        members = f", mean of {self.members} members" if self.members > 1 else ""
        effective = f"{self.effective_episodes:,.1f} effective episodes"
        return f"<ScoreResult {self.run}: {sizes}{members}, {effective}{warned(self.warnings)}>"

    @property
    def scores(self) -> pl.DataFrame:
        """As ``load_scores`` gives them."""
        return load_scores(self.run)


def open_scorable(source: str, options: ReadOptions, out: Path) -> Dataset:
    """The dataset to score.

    Raises:
        DatasetError: it cannot be read, or has no rewards.
        RunError: the run folder would lie in it, or replace it.
    """
    dataset = open_dataset(source, options)
    refuse_overlap(out, {f"the dataset's {path.name}": path for path in dataset.files})
    if not dataset.has_rewards:
        raise DatasetError(
            f"{source}: the dataset has no rewards, and scores are learned from nothing else",
            fix="name their column: --column reward=NAME, or of demonstrations a success flag: --success "
            f"{dataset.success_flag or 'NAME'}",
        )
    return dataset


def new_manifest(
    dataset: Dataset, options: ReadOptions, settings: TrainSettings, seed: int, members: int
) -> dict[str, Any]:
    """What is known of a run before it has scored anything.

    Args:
        settings, seed, members: of the training of its scorer.
    """
    return {
        "kind": RUN,
        "complete": False,
        "dataset": dataset_facts(dataset, options),
        "settings": settings.to_json(),
        "seed": seed,
        "members": members,
        "versions": versions(),
    }


def finish_run(
    work: Path,
    out: Path,
    manifest: dict[str, Any],
    scored: Scored,
    scorer: Scorer,
    seconds: dict[str, float],
    warnings: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ScoreResult:
    """Describe the scores, and write the manifest that makes a folder a complete run.

    Args:
        work: the folder.
        out: the name that it gets next.
        manifest: of ``new_manifest``, and what was found since.
        warnings: of the data.
        notes: on the training.
    """
    score = scored.scores.column("score")
    share = sample_share_of_scores(score)
    effective = effective_episodes_of_scores(_parts(scored.scores), float(score.max()))
    of_best = effective_episodes_of_best(_parts(scored.scores), score, ROW_SHARES)
    q_value = scored.scores.column("q_value")
    q_value.sort()  # in place, as it is held for nothing else: memory grows with it
    members = [member.persistence for member in scorer.trajectory]
    found = scored_outcomes(scored.scores)
    success_rate = None if found is None else found[0].rate
    signs = [
        *score_signs(
            score,
            q_value,
            share,
            one_return=scored.one_return,
            rows_alone=1.0 - float(scored.scores.column("goes_on").mean()),
            effective_episodes=effective,
            episodes=scored.found["episodes"],
        ),
        *([] if found is None else outcome_signs(*found)),
    ]
    kind = kind_of(members)
    outcome = {
        "complete": True,
        "files": hash_folder(work, without=[CHECKPOINT_FILE]),
        "scores": [file.name for file in scored.scores.files],
        "reward_scale": scored.scores.reward_scale,
        "persists_over": kind,
        "success_rate": success_rate,
        "effective_sample_share": share,
        "effective_episodes": effective,
        "best_rows": next((s for s, n in zip(ROW_SHARES, of_best, strict=True) if n >= FEW_EPISODES), None),
        "warnings": [dataclasses.asdict(sign) for sign in (*(Sign(text) for text in warnings), *signs)],
    }
    manifest = manifest | outcome
    manifest["notes"] = [
        *scored.notes,
        *notes,
        _note_on_actions(scorer),
        note_on_persistence(kind, members, scored.longest_episode),
        *Standing.of(manifest).advice,
    ]
    result = dataclasses.replace(
        recorded_result(out, manifest),
        seconds={part: round(value, 3) for part, value in seconds.items()},
        skipped=False,
    )
    write_times(work, {"finished": now(), "seconds": result.seconds})
    write_manifest(work, manifest)
    return result


def _parts(scores: ScoreTable) -> Iterator[tuple[Array, Array]]:
    """(episode_id, score) of all rows, some at a time."""
    for batch in scores.batches(["episode_id", "score"]):
        if len(batch):
            yield batch.column("episode_id").to_numpy(), batch.column("score").to_numpy()


def recorded_result(out: Path, manifest: dict[str, Any]) -> ScoreResult:
    """What a finished run gave, as its manifest says."""
    proposed = Standing.of(manifest).proposed
    return ScoreResult(
        run=out,
        rows=manifest["dataset"]["rows"],
        episodes=manifest["dataset"]["episodes"],
        members=manifest["members"],
        effective_sample_share=manifest["effective_sample_share"],
        effective_episodes=manifest["effective_episodes"],
        seconds=read_times(out).get("seconds", {}),
        notes=as_notes(manifest["notes"]),
        warnings=as_notes(sign["text"] for sign in manifest["warnings"]),
        proposed=None if proposed is None else Note(proposed),
        source_format=manifest["dataset"]["format"],
        skipped=True,
    )


def request_of(manifest: Mapping[str, Any], scorer: list[dict[str, Any]] | None) -> dict[str, Any]:
    """What was asked for: the dataset by the hashes of its files, and what decides its scores.

    Args:
        manifest: of ``new_manifest``.
        scorer: hashes of the scorer that is applied; None where one is trained.
    """
    dataset = manifest["dataset"]
    request = {"dataset": hashes_of(dataset), "read_options": dataset["read_options"], "scorer": scorer}
    if scorer is None:
        request |= {name: manifest[name] for name in ("settings", "seed", "members")}
    return request


def note_on_persistence(kind: Kind | None, members: Sequence[Persistence], longest: int) -> str:
    """Over how many steps scores are smoothed, and what that means for a filter.

    Args:
        longest: steps of the longest episode; no score reaches beyond its own.
    """
    scales = sorted(
        {scale if math.isinf(scale) else min(scale, longest) for scale in (member.scale for member in members)}
    )
    names = " or ".join("whole episodes" if math.isinf(scale) else f"{scale:.0f} steps" for scale in scales)
    if kind is None and not any(member.predicted > 0.0 for member in members):
        return "no behavior persists here: the past of a row does not predict its future"
    if kind is None:
        return f"members disagree over how many steps behavior persists: {names}"
    if kind == "whole episodes":
        note = "behavior persists over whole episodes here, so all rows of an episode have the same score"
        return f"{note} (over at most {min(LONGEST_PATH, longest):,} steps)"
    if all(member.scale >= longest for member in members):
        return (
            f"behavior persists over at least {longest} steps here, the length of the longest episode: rows of "
            "an episode have similar scores"
        )
    return f"behavior persists over {names} here: good and bad rows can lie in one episode"


def _note_on_actions(scorer: Scorer) -> str:
    scaling = scorer.scaling
    low, high = scaling.action_low.round(4).tolist(), scaling.action_high.round(4).tolist()
    return f"actions are scaled to [-1, 1] by the {scaling.action_bounds_from}: low {low}, high {high}"
