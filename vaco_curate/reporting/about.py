"""What a report says of the run in words: what was scored, by what, and what to do next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from vaco_curate.core.training.presets import PRESETS
from vaco_curate.curation.advice import COMMANDS, DATASETS, Standing


@dataclass(frozen=True)
class Fact:
    """A line of the header; ``more`` is for those who ask."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class Advice:
    """What served a learner best on the board: the command first, then those within five points of it."""

    learner: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """A command, and what it is for."""

    command: str
    purpose: str


def dataset_name(manifest: dict[str, Any]) -> str:
    """The last part of what the user called the dataset."""
    source = str(manifest["dataset"]["source"])
    return PurePath(source).name or source


def header(manifest: dict[str, Any], finished: str | None) -> list[Fact]:
    """What was scored, when and by what.

    Args:
        finished: when, as ISO 8601 has it; None where nobody knows.
    """
    dataset = manifest["dataset"]
    kind = f"{dataset['format']} format" + (f", environment {dataset['env_id']}" if dataset["env_id"] else "")
    facts = [
        Fact("Dataset", dataset["source"], f"{kind}, fingerprint {dataset['fingerprint'][:12]}"),
        Fact("Size", f"{dataset['rows']:,} rows in {dataset['episodes']:,} episodes"),
        *_scorer(manifest),
        Fact("Seed", str(manifest["seed"])),
        Fact("Members", "1 scorer" if manifest["members"] == 1 else f"mean of {manifest['members']} scorers"),
        Fact(
            "Scored", "at an unknown time" if finished is None else _date(finished), f"on {manifest['device']}"
        ),
    ]
    return facts


def _scorer(manifest: dict[str, Any]) -> list[Fact]:
    preset = preset_name(manifest) or "settings of your own"
    origin = manifest.get("scorer_from")
    if origin is None:
        return [Fact("Preset", preset, "trained on this dataset")]
    trained_on = str(origin["fingerprint"])
    same = trained_on == manifest["dataset"]["fingerprint"]
    where = "this dataset" if same else f"another dataset (fingerprint {trained_on[:12]})"
    return [
        Fact(
            "Scorer", f"applied, from the run {PurePath(origin['folder']).name}", f"it was trained on {where}"
        ),
        Fact("Preset", preset, "of that run"),
    ]


def preset_name(manifest: dict[str, Any]) -> str | None:
    """The preset whose settings trained the scorer; None for others."""
    settings = manifest["settings"]
    return next((name for name, preset in PRESETS.items() if preset.to_json() == settings), None)


def _date(text: str) -> str:
    when = datetime.fromisoformat(text)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def advice_by_learner(manifest: dict[str, Any]) -> tuple[str, list[Advice]] | None:
    """The kind of such datasets, and the board's advice; None where there is none for such scores."""
    standing = Standing.of(manifest)
    if standing.kind is None or not standing.advised:
        return None
    learners = [
        Advice(learner, tuple(COMMANDS[column] for column in columns))
        for learner, columns in standing.advised.items()
    ]
    return f"{DATASETS[standing.kind]} datasets where behavior persists over {standing.kind}, as here", learners


def why_no_advice(manifest: dict[str, Any]) -> str:
    """The reason in words, where there is no advice by learner."""
    standing = Standing.of(manifest)
    if "scores" in standing.doubted:
        return "a warning above speaks against following these scores"
    if standing.doubted:
        return "few rows or episodes carry the weight (see the warning above), and the board has no such data"
    if standing.demonstrations:
        return "the board has no demonstrations"
    found = "no behavior was found to persist here"
    if manifest["members"] > 1:
        found = "the members disagree over how long behavior persists here, or found that it does not"
    return f"{found}, and the board has no such datasets"


def next_steps(run: str, manifest: dict[str, Any]) -> list[Step]:
    """Commands that go on from here.

    Args:
        run: name of the run folder.
    """
    name = shlex.quote(run)
    standing = Standing.of(manifest)
    steps = [] if standing.proposed is None else [_selection(name, standing.proposed)]
    if manifest["dataset"]["env_id"] and not standing.doubted:
        purpose = (
            "Clone a policy with the weights, roll it out, and compare it with one cloned from all rows alike."
        )
        steps.append(Step(f"vaco-curate eval {name}", purpose))
    if manifest["members"] == 1 and "scorer_from" not in manifest:
        steps += _second_opinion(run, manifest)
    return steps


def _selection(name: str, proposed: str) -> Step:
    command, _, options = proposed.partition(" ")
    purpose = (
        "Write a weight for every row." if command == "reweight" else "Write the rows worth learning from."
    )
    return Step(f"vaco-curate {command} {name} {options}".rstrip(), purpose)


def _read_as(manifest: dict[str, Any]) -> list[str]:
    """The options of ``score`` by which the dataset was read."""
    read = manifest["dataset"]["read_options"]
    words: list[str] = []
    if read.get("columns"):
        words += ["--column", ",".join(f"{ours}={theirs}" for ours, theirs in read["columns"].items())]
    if read.get("drop_columns"):
        words += ["--drop-columns", ",".join(read["drop_columns"])]
    for name in ("success", "step_cost", "max_episode_steps"):
        if read.get(name):
            words += [f"--{name.replace('_', '-')}", str(read[name])]
    return words


def _second_opinion(run: str, manifest: dict[str, Any]) -> list[Step]:
    source = " ".join(map(shlex.quote, [str(manifest["dataset"]["source"]), *_read_as(manifest)]))
    other = shlex.quote(f"{run.removesuffix('.vaco')}-again.vaco")
    preset = preset_name(manifest)
    options = f"--seed {manifest['seed'] + 1} --out {other}"
    options = options if preset is None else f"--preset {preset} {options}"
    return [
        Step(f"vaco-curate score {source} {options}", "Score once more with another seed."),
        Step(f"vaco-curate report {shlex.quote(run)} --compare {other}", "See how far the two runs agree."),
    ]
