"""The stage behind ``vaco-curate eval``: clone, roll out, compare."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.adapters.decisions import weights_in
from vaco_curate.arguments import several_names, whole_number
from vaco_curate.core.scorer import Scorer
from vaco_curate.core.training.arithmetic import chosen_device
from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.curation import effective_sample_share
from vaco_curate.curation.weights import weights_from_scores
from vaco_curate.data.formats.environment import imports_code
from vaco_curate.errors import EnvironmentUnavailableError, RunError, SettingsError
from vaco_curate.evaluation import (
    COMPARISONS,
    CloningSettings,
    ComparisonInputs,
    Environment,
    bootstrap_interval,
    check_environment,
    clone_policies,
    normalized_return,
    reference_returns,
    rollout_returns,
)
from vaco_curate.stages.runs import SCORER_FOLDER, Run, open_run
from vaco_curate.stages.words import rounded
from vaco_curate.store.files import FolderLike, place
from vaco_curate.store.folders import CURATED, EVALUATED_POLICY
from vaco_curate.store.manifest import now, read_manifest, write_times
from vaco_curate.store.progress import task

CURATED_NAME = "curated"


@dataclass(frozen=True)
class EvaluationSettings:
    """How a comparison is measured.

    Attributes:
        environment: where to roll out, or its Gymnasium id; None for the dataset's own.
        episodes: per seed.
        seeds: independent trainings of every policy.
        against: names in ``evaluation.COMPARISONS``.
        cloning: settings of every policy.
    """

    environment: Environment | str | None = None
    episodes: int = 10
    seeds: int = 3
    against: tuple[str, ...] = ("uniform",)
    cloning: CloningSettings = field(default_factory=CloningSettings)

    def __post_init__(self) -> None:
        for name in ("episodes", "seeds"):
            object.__setattr__(self, name, whole_number(getattr(self, name), f"--{name}", least=1))
        if not isinstance(self.environment, Environment | str | None):
            raise SettingsError(f"--env takes the Gymnasium id of an environment, not {self.environment!r}")
        object.__setattr__(self, "against", several_names(self.against, "--against"))
        unknown = [name for name in self.against if name not in COMPARISONS]
        if unknown:
            raise SettingsError(f"--against {unknown[0]}: unknown", fix=f"choose from {', '.join(COMPARISONS)}")


FEWEST_RETURNS = 10
"""Returns that an interval needs to mean something."""


@dataclass(frozen=True)
class PolicyResult:
    """One row of the comparison.

    Attributes:
        name: "curated" or the comparison.
        rows: with a weight above zero.
        returns: per seed and episode.
        mean, interval: episode return and its 95 % bootstrap interval over seeds and episodes; None for one
            seed, or fewer than ``FEWEST_RETURNS`` episodes in all.
        normalized: the mean and the interval as normalized returns, when references are known.
    """

    name: str
    rows: int
    returns: list[list[float]]
    mean: float
    interval: tuple[float, float] | None
    normalized: tuple[float, float | None, float | None] | None


@dataclass(frozen=True)
class EvaluationResult:
    """What ``eval`` measured; also kept in the run, for its report.

    Attributes:
        folder: the run or the curated folder that was evaluated.
        curated: its rule in words.
        env_id: where the policies were rolled out.
        policies: the curated one first.
    """

    folder: Path
    curated: str
    env_id: str
    episodes: int
    seeds: int
    policies: list[PolicyResult]

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        means = ", ".join(f"{policy.name} {rounded(policy.mean)}" for policy in self.policies)
        return f"<EvaluationResult {self.folder}: mean returns in {self.env_id}: {means}>"


def evaluate_policy(
    folder: FolderLike,
    settings: EvaluationSettings | None = None,
    *,
    device: str = "auto",
    dataset: FolderLike | None = None,
) -> EvaluationResult:
    """Clone the curated data and the named comparisons, and roll each policy out.

    Args:
        folder: a run (its weights on all rows), or a folder written by ``filter`` or ``reweight``.
        dataset: where the dataset is now, if it has moved since it was scored.

    Raises:
        CurateError: nothing to evaluate, an unknown comparison, or no environment.
    """
    folder, settings = place(folder), EvaluationSettings() if settings is None else settings
    if not isinstance(settings, EvaluationSettings):
        raise SettingsError(f"settings: EvaluationSettings are needed, not {type(settings).__name__}")
    torch_device = chosen_device(device)
    run, rule, weight = _curated(folder)
    env = settings.environment or _environment_of(run)
    env = Environment(env) if isinstance(env, str) else env
    data, scratch = run.dataset(dataset)
    parts = [name for name, _ in data.observation_parts]
    check_environment(env, data.observation_size, data.action_size, parts)
    scaling = Scorer.load(run.folder / SCORER_FOLDER).scaling
    reference = reference_returns(env.env_id, data.reference_returns)
    results = []
    for name in (CURATED_NAME, *settings.against):
        returns = np.empty((settings.seeds, settings.episodes))
        for seed in range(settings.seeds):
            rows = weight if name == CURATED_NAME else _comparison(name, data, run, weight, seed)
            with task(f"cloning: {name}, seed {seed}", settings.cloning.updates, "updates"):
                (policy,) = clone_policies(
                    data,
                    rows[None],
                    scaling,
                    settings.cloning,
                    seeds=[seed],
                    device=torch_device,
                    scratch=scratch,
                )
            with task(f"rolling out: {name}, seed {seed}", settings.episodes, "episodes"):
                returns[seed] = rollout_returns(
                    policy, env, episodes=settings.episodes, seed=1_000 * seed, parts=parts
                )
            if name == CURATED_NAME and seed == 0:
                policy.save(folder / EVALUATED_POLICY, {"rule": rule, "run": run.manifest})
        results.append(_policy_result(name, rows, returns, reference))
    result = EvaluationResult(folder, rule, env.env_id, settings.episodes, settings.seeds, results)
    run.refuse_replaced()
    _record(run, result, settings)
    return result


def _curated(folder: Path) -> tuple[Run, str, Array]:
    """The run behind a folder, its rule in words, and the row weights it stands for."""
    manifest = read_manifest(folder)
    if manifest.get("kind") != CURATED:
        run = open_run(folder)
        weight = weights_from_scores(run.scores.column("score"), 1.0)
        return run, "the scorer's weights", weight
    if manifest["part"] == "excluded":
        raise RunError(f"{folder}: holds the rows that a filter dropped", fix="name the folder of kept rows")
    run = open_run(_run_of(folder, Path(manifest["run"]["folder"])))
    if run.scorer_hashes() != manifest["run"]["scorer"] or run.scores.fingerprint != _fingerprint(manifest):
        raise RunError(
            f"{folder}: the run {run.folder} is no longer the one that made it",
            fix="filter or reweight again",
        )
    weight = weights_in(folder, manifest)
    if len(weight) != len(run.scores):
        raise RunError(f"{folder}: holds weights of {len(weight)} rows, the run has {len(run.scores)}")
    return run, manifest["rule"]["words"], weight


def _fingerprint(manifest: dict[str, Any]) -> str:
    return str(manifest["dataset"]["fingerprint"])


def _run_of(folder: Path, recorded: Path) -> Path:
    """The run of a curated folder: where it was, or beside the folder if both have moved."""
    beside = folder.resolve().with_name(recorded.name)
    return beside if not recorded.exists() and beside.exists() else recorded


def _environment_of(run: Run) -> Environment:
    dataset = run.manifest["dataset"]
    if dataset["env_id"] is None:
        raise EnvironmentUnavailableError(
            "the dataset does not name its environment", fix="name it: --env Hopper-v5 (any Gymnasium id)"
        )
    if imports_code(dataset["env_id"]):
        raise EnvironmentUnavailableError(
            f"the dataset's environment {dataset['env_id']!r} names a module, whose code would be run",
            fix="if you trust it, name it yourself: --env ID",
        )
    return Environment(dataset["env_id"], dataset["env_kwargs"])


def _comparison(name: str, data: Transitions, run: Run, weight: Array, seed: int) -> Array:
    kept = weight[weight > 0]
    budget = max(1, round(effective_sample_share(kept) * len(kept)))
    return COMPARISONS[name](ComparisonInputs(data, run.scores, budget, seed))


def _policy_result(
    name: str, weight: Array, returns: Array, reference: tuple[float, float] | None
) -> PolicyResult:
    mean = float(returns.mean())
    tells = len(returns) > 1 and returns.size >= FEWEST_RETURNS
    interval = bootstrap_interval(returns) if tells else None
    normalized = None
    if reference is not None:
        ends = [None, None] if interval is None else [normalized_return(end, reference) for end in interval]
        normalized = (normalized_return(mean, reference), *ends)
    return PolicyResult(name, int((weight > 0).sum()), returns.tolist(), mean, interval, normalized)


def _record(run: Run, result: EvaluationResult, settings: EvaluationSettings) -> None:
    facts: dict[str, Any] = dataclasses.asdict(result) | {"folder": str(result.folder.resolve())}
    rule = f"{result.curated}; {result.env_id}"
    run.record_evaluation(rule, facts | {"cloning": dataclasses.asdict(settings.cloning)})
    write_times(run.folder, {"evaluated": now()})
