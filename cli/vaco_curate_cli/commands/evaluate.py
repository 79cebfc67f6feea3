"""``vaco-curate eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaco_curate_cli.display import Display, number_text, table
from vaco_curate_cli.group import SectionCommand, options_of
from vaco_curate_cli.options import (
    RUN_OR_CURATED,
    JsonObject,
    dataset_option,
    device_option,
    output_options,
    resolve_run,
)

if TYPE_CHECKING:
    from vaco_curate.stages.evaluate import EvaluationResult, PolicyResult

AGAINST = ("uniform", "random", "return", "advantage")
cloning, rolling_out = options_of("Policies"), options_of("Roll-outs")


@click.command(cls=SectionCommand, name="eval")
@click.argument("run", type=RUN_OR_CURATED, required=False)
@cloning(
    "--against",
    default="uniform",
    show_default=True,
    or_empty=True,
    help=f"Baselines to compare with, separated by commas: {', '.join(AGAINST)}.",
)
@cloning("--seeds", type=int, default=3, show_default=True, help="Train each policy with this many seeds.")
@cloning(
    "--updates", type=int, default=20_000, show_default=True, help="Number of cloning updates for each policy."
)
@rolling_out(
    "--episodes", type=int, default=10, show_default=True, help="Roll out this many episodes for each seed."
)
@rolling_out("--env", "env_id", help="Gymnasium environment.  [default: the dataset's]")
@rolling_out("--env-kwargs", type=JsonObject(), help="Arguments for gymnasium.make.")
@rolling_out(
    "--reset-options",
    type=JsonObject(),
    help="Options for env.reset, such as the start and goal cells of a maze.",
)
@device_option
@dataset_option
@output_options
def eval_command(
    run: Path | None,
    env_id: str | None,
    env_kwargs: dict[str, Any] | None,
    reset_options: dict[str, Any] | None,
    episodes: int,
    seeds: int,
    updates: int,
    against: str,
    device: str,
    dataset: str | None,
    display: Display,
) -> None:
    """Clone policies from the curated data and from baselines, roll them out and compare their returns.

    RUN is a run folder, or a folder that 'filter' or 'reweight' wrote. For a run folder, the policy is cloned
    from all rows with the scorer's weights. The default is the newest run in the current folder.

    Every policy is trained in the same way. The baselines 'random' and 'return' get as many rows as the
    effective sample size (effective rows) of the curated data.

    \b
    Examples:
      vaco-curate eval
      vaco-curate eval hopper.top10pct --against uniform,random,return,advantage
      vaco-curate eval maze.vaco --env PointMaze_UMaze-v3 --env-kwargs '{"continuing_task": false}'
    """
    if env_id is None and (env_kwargs or reset_options):
        raise click.UsageError("--env-kwargs and --reset-options need --env")
    from vaco_curate.evaluation import CloningSettings, Environment
    from vaco_curate.stages.evaluate import EvaluationSettings, evaluate_policy

    environment = None if env_id is None else Environment(env_id, env_kwargs or {}, reset_options)
    settings = EvaluationSettings(
        environment=environment,
        episodes=episodes,
        seeds=seeds,
        against=tuple(name.strip() for name in against.split(",") if name.strip()),
        cloning=CloningSettings(updates=updates),
    )
    with display.progress():
        result = evaluate_policy(resolve_run(run, display), settings, device=device, dataset=dataset)
    display.result(result)
    _show(result, display)


def _show(result: EvaluationResult, display: Display) -> None:
    title = (
        f"{result.env_id}, {result.seeds} seed(s), {result.episodes} episodes each; curated: {result.curated}"
    )
    shown = table(title, "cloned from", "rows", "mean return", "95 % interval", "normalized")
    for policy in result.policies:
        shown.add_row(
            policy.name,
            number_text(policy.rows),
            number_text(policy.mean),
            "-" if policy.interval is None else " to ".join(map(number_text, policy.interval)),
            _normalized(policy),
        )
    display.show(shown)
    if any(policy.interval is None for policy in result.policies):
        display.note("no interval of one seed, or of fewer than 10 returns: give more --seeds or --episodes")


def _normalized(policy: PolicyResult) -> str:
    if policy.normalized is None:
        return "-"
    mean, low, high = policy.normalized
    return f"{mean:.1f}" if low is None else f"{mean:.1f} ({low:.1f} to {high:.1f})"
