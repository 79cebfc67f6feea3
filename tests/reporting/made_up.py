"""A scored dataset that was made up, and what a report says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from helpers import write_scores

from vaco_curate.core.scorer import RowScores
from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.transitions import Transitions
from vaco_curate.curation import Candidates
from vaco_curate.data.columns import transitions_from_columns
from vaco_curate.data.scores import ScoreTable
from vaco_curate.reporting import ReportFacts, report_facts
from vaco_curate.reporting.comparison import compare
from vaco_curate.reporting.episodes import Grouping
from vaco_curate.reporting.projection import sample_observations

HOSTILE = "</script><script>document.title = 'hacked'</script>\"'&{{ 7 * 7 }}"

EPISODES = 300


def varied(episodes: int = EPISODES, longest: int = 30) -> Transitions:
    """Episodes of 1 to ``longest`` rows; those with a larger first observation earn more."""
    generator = np.random.default_rng(3)
    length = generator.integers(1, longest + 1, episodes)
    quality = np.repeat(generator.standard_normal(episodes), length)
    count = int(length.sum())
    terminated = np.zeros(count, bool)
    terminated[np.cumsum(length) - 1] = True
    observation = generator.standard_normal((count, 3)).astype(np.float32)
    observation[:, 0] += 2 * quality
    columns = {
        "observation": observation,
        "action": generator.uniform(-1, 1, (count, 2)).astype(np.float32),
        "reward": (quality + generator.standard_normal(count)).astype(np.float32),
        "terminated": terminated,
    }
    return transitions_from_columns(columns, source=HOSTILE, format_name="d4rl")


def row_scores(data: Transitions, seed: int = 0) -> RowScores:
    """The returns and some noise, with a spread as of several members; some rows share their score."""
    noise = np.random.default_rng(seed).standard_normal(len(data)).round(1)
    mean = np.repeat(data.episode_return / data.episode_length, data.episode_length)
    score = (mean + 0.5 * noise).astype(np.float32)
    zeros = np.zeros(len(data), np.float32)
    return RowScores(score, np.abs(noise).astype(np.float32), zeros, score, zeros)


def manifest(data: Transitions, **facts: object) -> dict:
    return {
        "dataset": {
            "source": f"/data/{HOSTILE}",
            "format": "d4rl",
            "env_id": HOSTILE,
            "read_options": {},
            "rows": len(data),
            "episodes": len(data.episode_start),
            "fingerprint": data.fingerprint,
        },
        "settings": PRESETS["quick"].to_json(),
        "seed": 0,
        "members": 3,
        "device": "cpu",
        "persists_over": "whole episodes",
        "success_rate": None,
        "effective_sample_share": 0.15,
        "effective_episodes": 30.3,
        "best_rows": 10,
        "notes": [HOSTILE],
        "warnings": [],
    } | facts


@dataclass
class Made:
    """A made-up scored dataset."""

    data: Transitions
    scores: ScoreTable
    facts: ReportFacts
    candidates: Candidates = field(init=False)

    def __post_init__(self) -> None:
        self.candidates = Candidates.scored(self.scores)


def made_up(folder: Path) -> Made:
    """The dataset and its facts; its scores lie in the folder."""
    data = varied()
    scores = write_scores(folder / "scores.parquet", data, row_scores(data))
    other = write_scores(folder / "other.parquet", data, row_scores(data, seed=1))
    number = np.arange(len(data.episode_start)) % 4 - 1
    curves = pl.DataFrame(
        {"phase": ["value"] * 3, "update": [1, 2, 3]}
        | {name: [1.0, 2.0, 1.5] for name in ("value_loss", "critic_loss", "q_value", "value")}
    )
    facts = report_facts(
        scores,
        manifest(data),
        curves,
        {},
        observations=sample_observations(data.pieces(), len(data)),
        grouping=Grouping("operator", [HOSTILE, "ada", "bob"], number),
        comparison=compare(scores, other, HOSTILE),
    )
    return Made(data, scores, facts)
