"""docs/quality.md from the table of results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import polars as pl
from datasets import HELD_BACK, RARE, SMOKE_SOURCES, SOURCES, STITCH
from goals import CURATED, GOALS, LEARNERS, MIXED, Comparison, Goal, comparisons, gains
from results import Policy, Results, complete
from signals import ABLATIONS, ATTEMPTS, DEFAULT, LITERAL, LITERAL_UPDATES, changes

AGREEMENT = "rank correlation between seeds"
WEIGHTS = ("effective sample size", "weight on the best")
RANKING = (
    "Pearson",
    "Spearman",
    "AUC, rows",
    "AUC, episodes",
    "best in top 10 %, rows",
    "best in top 10 %, episodes",
)
SIZES = ("rows", "episodes", "episodes by the best")
BETWEEN = ("AUC, directed against random", "AUC, second against first")
STITCHING = (
    *BETWEEN,
    "first half in top 50 %",
    "second half in top 50 %",
    "random in top 50 %",
    "second half in top 10 %",
    "random in top 10 %",
)
SCORES = (DEFAULT, LITERAL, "Q", "V", "advantage", "AWR weight", "1 / Q", "return", "random")
PLAIN = ("Q", "V", "advantage", "AWR weight", "1 / Q")
OTHERS = (
    ("return", "top 10 % of episodes"),
    ("return", "top 25 % of episodes"),
    ("return", "top 50 % of episodes"),
    ("Q", "top 10 %"),
    ("Q", "top 25 %"),
    ("Q", "top 50 %"),
    ("advantage", "top 10 %"),
    ("AWR weight", "weights"),
    ("1 / Q", "weights"),
    (LITERAL, "weights"),
)
"""What is cloned beside what the default chooses."""
NOTABLE = 0.03
"""Difference of two figures of a ranking that is worth a row."""


def number(value: float, digits: int = 2) -> str:
    """Blank for what was not measured, or is not defined."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def earned(policy: Policy | None) -> str:
    """Blank for what was not measured."""
    return "" if policy is None else str(policy)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown; rows without any value are left out."""
    head = list(head)
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(row)} |" for row in map(list, rows) if any(row[1:])]
    return "\n".join(lines) + "\n"


def render(results_table: pl.DataFrame, datasets: list[str]) -> str:
    """The page about the given datasets."""
    results = Results(results_table, datasets)
    return "\n".join(
        (
            HEAD.format(
                hours=results.seconds / 3600,
                value=LITERAL_UPDATES[0],
                bilevel=LITERAL_UPDATES[1],
                held_back=" and ".join(HELD_BACK),
            ),
            "## Goals\n",
            GOALS_TEXT,
            table(("figure", "goal", "found", ""), (_goal_row(goal, results) for goal in GOALS)),
            _gains(results),
            "### Not reached\n",
            NOT_REACHED_TEXT,
            "".join(_missed(goal, results) for goal in GOALS),
            "## Datasets\n",
            DATASETS_TEXT,
            table(
                ("dataset", "made of", *SIZES, "share of the best"),
                (_sizes(results, dataset) for dataset in datasets),
            ),
            "## Against labels and returns\n",
            RANKING_TEXT,
            *(_ranking(results, dataset) for dataset in results.datasets if dataset != STITCH),
            "## The stitching maze\n",
            STITCH_TEXT,
            _ranking(results, STITCH),
            "## Scorers of half the episodes\n",
            HALVES_TEXT,
            _halves(results),
            "## What policies earn\n",
            POLICY_TEXT,
            *(_policies(results, learner) for learner in LEARNERS),
            "### Behavior cloning on what other signals choose\n",
            _others(results),
            "### Curated data against all of it\n",
            _verdicts(results),
            "## Where a plain signal does better\n",
            PLAIN_TEXT,
            _plain(results),
            "## What was tried where a goal is missed\n",
            ATTEMPTS_TEXT,
            _attempted_weights(results),
            ATTEMPTED_POLICIES_TEXT,
            _attempted_policies(results),
            "## Ablations\n",
            ABLATION_TEXT,
            _ablations(results),
            SETTINGS_TEXT,
            _settings(results),
        )
    )


HEAD = """# Are the scores any good?

Made by

    pip install '.[quality]'
    python benchmarks/quality FOLDER

which measures what is not in [its table of results](../benchmarks/quality/results.parquet) yet and renders this page from it: on two cores all of it would take some 7 hours, and what was tried where a goal is missed
(`--part attempts`) 2.5 more, by the times of single tasks ({hours:.0f} hours of one core as recorded, partly beside other work). A blank was not measured, or is not defined. FOLDER holds the five HDF5 files under "Datasets", which are not part of this repository.

**What is compared.** `VACO` is the default (`--preset standard`). `VACO, paper` is the literal preset with {value:,} value and {bilevel:,}
bi-level updates, these ten times the default's for a tenth of its rate, and both a fraction of the preset's own million; it was measured on three datasets. Q, V, advantage, AWR weight (exp(3 (Q - V)), at most 100)
and 1 / Q (of Q less its minimum) come from the critics of the default. "return" orders rows by the return of their episode, an oracle where returns tell all.

**What was seen before.** Labels judge, no training reads them; but settings were chosen by what they judge.

- The default's were chosen on hopper-mixed, halfcheetah-mixed, the maze and, for the center that promises are compared with, halfcheetah-medium-expert: on other trainings, but on the same data.
- The rule for its temperature was chosen by what cloning earned on the mixtures with 5 and 10 % of the best and on recordings of LunarLander, where two earlier rules had failed; its two bounds (0.5, 15 nats) with the
  sample sizes of all datasets but those held back in view.
- The scores of mountain-car and reacher were seen before the divergence over the data became part of the default, which was decided by how seeds agree on halfcheetah-10-percent-best.
- Held back are {held_back}: nothing was changed after their scores. Their sets of all grades were first scored when the bound was 0.3, and came out the same bit for bit with 0.5; their mixtures with 10 % of the best
  were first scored with the default as it is.
"""
GOALS_TEXT = """For the default; median of the seeds, where nothing else is said.
"""
NOT_REACHED_TEXT = """What was tried is [below](#what-was-tried-where-a-goal-is-missed). Weights that point to the best alone have an effective sample size of at most the share of the best ("Datasets"), which is 4 to 10 %
in the mixtures that miss that goal. With 5 % of the best, and on those of hopper and halfcheetah with 10 %, reaching it costs most of what cloning by the weights earns; with 10 % on LunarLander it costs a part of it (84 instead of 100 at 12 %), on mountain-car nothing
([method.md](method.md), "Where the best is rare"). On halfcheetah-mixed a smaller bound of the plateau (as "no plateau" below) would
reach it, and TD3+BC would earn more, for less cloning (29 instead of 53, intervals overlap); the bound is kept for LunarLander, where it decides between 15 and 100.
"""
DATASETS_TEXT = """Five files of simulator data whose makers are known (D4RL's layout, and who acted in `infos/behavior`): four by policies of very different quality, named after the algorithms that trained
them, and a maze. The others are recorded by the command itself, from a scripted controller at several grades (`scripted.py`). Mixtures hold whole episodes of the best behavior and of the random one and were drawn once, which no interval knows of; some are small.
In the maze the best are both directed behaviors.
"""
RANKING_TEXT = """Pearson and Spearman: an episode's mean score with its return. AUC: area under the ROC curve of the best behaviors against the rest, over rows or episodes. Best behaviors: tqc and trpo in hopper-mixed, tqc and sac in
halfcheetah-mixed, the weak and the noisy grade in mountain-car-mixed, which earn more there than the script itself, for throttle costs; both directed behaviors in the maze; elsewhere the one best. Best in top 10 %: their share of the tenth of the rows with the best scores, or of the
best whole episodes that fit into a tenth of the rows; no more than their share of all rows allows. Weight on the best: their share of the weight. Rank correlation between seeds: of the pair that agrees least. Median of the seeds for the rest.
"""
STITCH_TEXT = """No episode goes all the way; the first half of it earns nothing. 0.5 is right between the two directed behaviors, 0.6, 0.2 and 0.2 of the rows are first half, second half and random.
"""
HALVES_TEXT = """Two scorers, each trained on a random half of the episodes, score all rows; and the first is judged on the half it has not seen. Median of the seeds. Half of a mixture with 5 % of the best holds at most three episodes of
the best, perhaps none, and a single best path counts as unusual ([method.md](method.md), "Its temperature"). On halfcheetah-medium-expert the halves agree about the two behaviors, which alone gives 0.75, and hardly about the order within each. Recorded environments were left out.
"""
POLICY_TEXT = """Normalized return (100 is D4RL's expert; in what was recorded here 0 and 100 are the means of random actions and the script), in the maze the share of episodes in % that reach the goal from the two start cells.
Mean, and in brackets a percentile bootstrap of 95 % over seeds of scorer and policy and over ten episodes of each (ten for each start cell): with three seeds it hardly
reaches beyond the lowest and the highest of them, and covers the mean of many seeds in about three quarters of the cases. On halfcheetah a policy that lies still earns 2.3.

BC: 20,000 updates. IQL and TD3+BC are d3rlpy's with its own settings, IQL's actor at the falling rate of its paper, on scaled rewards and drawn by weight: 30,000 and 10,000 updates, 3 and 1 % of what their papers use. Neither has converged: by the weights of
halfcheetah-mixed IQL earned 5.4 after 20,000 updates, 9.2 after 30,000 and 27 after 40,000, TD3+BC 1.6 after 10,000 and 4.8 after 50,000 (seed 0; all rows were not measured at these). Being slow, they were run on four datasets: both on hopper-mixed and halfcheetah-mixed, IQL in the maze, TD3+BC on hopper-10-percent-best.
In the recorded environments some of the starts that policies are judged from were also recorded (reacher and double-pendulum all, LunarLander and mountain-car a third).

IQL's falling rate was adopted after its results at d3rlpy's constant one, a seed each: hopper-mixed 23, 20, 21 on all rows, 5, 54, 22 on the top 50 %, 112, 4, 111 by the weights; halfcheetah-mixed 2.2 on all rows, 13, 15, 19 on the
top 50 %, 0, 9, 3 by the weights; the maze 100, 65, 60 on all rows, 100, 90, 65 on the top 50 %, 90, 100, 100 by the weights; hopper-10-percent-best 4, 3, 6 on all rows. Its 30,000 updates were adopted, for all datasets but the maze, which had them before, after results with 10,000 (means of three seeds; all rows, top 10, 25, 50 %, weights): hopper-mixed 21, 83, 40, 20,
106; halfcheetah-mixed 2.2, 2.5, 1.7, 15, 1.3.
"""
PLAIN_TEXT = f"""Figures of the rankings (Pearson to "best in top 10 %"; in the maze the AUC of directed rows) by which a signal from the same critics, or the literal algorithm, is ahead of the default by {NOTABLE} or more (of those signals the best), and policies
cloned from what these or the return choose whose interval lies above that of the default's with the same selection.
"""
ATTEMPTS_TEXT = """Median of the seeds; policies: mean and interval. The mixtures of environments held back miss the goal for the effective sample size like those here, and nothing was tried on them.
"""
ATTEMPTED_POLICIES_TEXT = """Selections that are worse than all rows by more than the intervals, and what other settings make of them. The top 25 % of a mixture with 5 % of the best hold four random rows for each of the best, whatever the score. In
mountain-car-mixed all grades but the random one reach the flag, and cloning all rows earns more than the script. The maze's top 10 % hold none of the second half ("The stitching maze"). The top 25 % of hopper-mixed are
rows of tqc, trpo and the best episodes of sac, of halfcheetah-mixed of tqc, sac and ppo: good data, of which cloning makes much and IQL little (tables above). Learners that bootstrap make more of
selections that mix better and worse behavior: with paths of 100 steps, which rank pieces of all episodes, IQL and TD3+BC make 19 and 14 of the top 25 % of halfcheetah-mixed, where cloning
by the weights falls to 3.5. One setting for both kinds of learner was not found.
"""
ABLATION_TEXT = """Settings are listed below the table (K1 and K2 without ending early). P / S: Pearson and Spearman; top: share of the best two in the top 10 % of episodes; BC:
normalized return of cloning by the weights, mean of the seeds; directed, between: the two AUCs of the maze; seeds: rank correlation between seeds,
the smallest of hopper-mixed, halfcheetah-mixed and the maze, where measured. What changes the network alone, whose say is small, was tried on hopper-mixed and in the maze; the rule for the plateau only where it acts.
"""
SETTINGS_TEXT = """What the variants set:
"""


def _found(goal: Goal, results: Results) -> tuple[dict[str, float], dict[str, float]]:
    """What was measured of a goal, and of that what misses it, by dataset."""
    measured = {dataset: value for dataset, value in goal.found(results).items() if not math.isnan(value)}
    return measured, {dataset: value for dataset, value in measured.items() if not goal.holds(value)}


def _goal_row(goal: Goal, results: Results) -> list[str]:
    measured, missed = _found(goal, results)
    values = sorted(measured.values())
    shown = ", ".join(number(value, goal.digits) for value in measured.values())
    if len(values) > 3:
        shown = f"{number(values[0], goal.digits)} to {number(values[-1], goal.digits)}"
    verdict = "not measured"
    if measured:
        verdict = "**missed**" if missed else "reached"
        if missed and len(measured) > 1:
            verdict += f" in {len(missed)} of {len(measured)}"
        if len(measured) < len(goal.found(results)):
            verdict += f" ({len(measured)} of {len(goal.found(results))} measured)"
    return [goal.text, goal.wanted, shown, verdict]


def _gains(results: Results) -> str:
    found = gains(results).values()
    return f"Of the gains, {sum(one.is_better for one in found)} of {len(found)} are beyond the intervals.\n"


def _missed(goal: Goal, results: Results) -> str:
    """A line of the list of what was not reached, or nothing."""
    _, missed = _found(goal, results)
    if not missed:
        return ""
    where = ", ".join(f"{dataset} ({number(value, goal.digits)})" for dataset, value in missed.items())
    return f"- {goal.text}: {where}\n"


def _sizes(results: Results, dataset: str) -> list[str]:
    sizes = [number(results.median(dataset, "return", name), 0) for name in SIZES]
    share = number(results.median(dataset, "return", "share of the best"))
    return [dataset, (SOURCES | SMOKE_SOURCES)[dataset].made_of, *sizes, share]


def _ranking(results: Results, dataset: str) -> str:
    figures = (*(STITCHING if dataset == STITCH else RANKING), *WEIGHTS, AGREEMENT)
    rows = ([score, *(number(results.median(dataset, score, name)) for name in figures)] for score in SCORES)
    return f"**{dataset}**\n\n" + table(("score", *figures), rows)


def _halves(results: Results) -> str:
    names = ("Pearson", "Spearman", "AUC, rows", *BETWEEN)
    figures = ("rank correlation between halves", *(f"{name}, unseen half" for name in names))
    rows = (
        [dataset, *(number(results.median(dataset, DEFAULT, name)) for name in figures)]
        for dataset in results.datasets
    )
    return table(("dataset", *figures), rows)


def _policies(results: Results, learner: str) -> str:
    rows = (
        [
            dataset,
            earned(results.everything(dataset, learner)),
            *(earned(results.policy(dataset, DEFAULT, selection, learner)) for selection in CURATED),
        ]
        for dataset in results.datasets
    )
    return f"### {learner}\n\n" + table(("dataset", "all rows", *CURATED), rows)


def _others(results: Results) -> str:
    rows = (
        [dataset, *(earned(results.policy(dataset, score, selection)) for score, selection in OTHERS)]
        for dataset in results.datasets
    )
    head = (score if selection == "weights" else f"{score}: {selection}" for score, selection in OTHERS)
    return table(("dataset", *head), rows)


def _verdicts(results: Results) -> str:
    found = list(comparisons(results))
    counts = (
        [
            selection,
            str(sum(one.is_better for one in of_selection)),
            str(sum(not (one.is_better or one.is_worse) for one in of_selection)),
            str(sum(one.is_worse for one in of_selection)),
        ]
        for selection in CURATED
        for of_selection in [[one for one in found if one.selection == selection]]
    )
    worse = ([_name(one), str(one.everything), str(one.curated)] for one in found if one.is_worse)
    return (
        "Over all learners and datasets, by the intervals; then those that are worse. Of two policies that are equally good, one is worse by its interval in 0.3 to 4 % of the cases "
        "(simulated, seeds that differ from a third to three times as much as episodes), so a few of these are chance.\n\n"
        + table(("selection", "better than all rows", "intervals overlap", "worse"), counts)
        + "\n"
        + table(("learner, dataset, selection", "all rows", "curated"), worse)
    )


def _name(one: Comparison) -> str:
    return f"{one.learner}, {one.dataset}, {one.selection}"


def _plain(results: Results) -> str:
    return table(("dataset, figure", "default", "plain signal"), _ahead(results))


def _ahead(results: Results) -> Iterator[list[str]]:
    others = (*PLAIN, LITERAL)
    for dataset in results.datasets:
        for figure in STITCHING[:1] if dataset == STITCH else RANKING:
            own = results.median(dataset, DEFAULT, figure)
            found = {score: results.median(dataset, score, figure) for score in others}
            best = max(others, key=lambda score: -math.inf if math.isnan(found[score]) else found[score])
            if found[best] >= own + NOTABLE:
                yield [f"{dataset}, {figure}", number(own), f"{best} {number(found[best])}"]
        for score, selection in OTHERS:
            own_selection = selection.removesuffix(" of episodes")
            policy, own_policy = (
                results.policy(dataset, *of) for of in ((score, selection), (DEFAULT, own_selection))
            )
            if complete(policy) and complete(own_policy) and policy.low > own_policy.high:
                yield [f"{dataset}, cloning, {selection}", str(own_policy), f"{score} {policy}"]


def _attempted_weights(results: Results) -> str:
    tried: dict[str, list[str]] = {}
    for attempt in ATTEMPTS:
        tried.setdefault(attempt.dataset, [DEFAULT]).extend(attempt.variants)
    rows = (
        [
            f"{dataset}, {_variant(name)}",
            number(results.median(dataset, name, WEIGHTS[0]), 3),
            number(results.median(dataset, name, WEIGHTS[1])),
            number(results.median(dataset, name, AGREEMENT)),
            earned(results.policy(dataset, name, "weights")),
        ]
        for dataset, names in tried.items()
        if dataset in results.datasets
        for name in names
    )
    return table(("dataset, variant", *WEIGHTS, AGREEMENT, "BC by the weights"), rows)


def _attempted_policies(results: Results) -> str:
    rows = (
        [
            f"{learner}, {attempt.dataset}, {selection}: {_variant(name)}",
            earned(results.everything(attempt.dataset, learner)),
            earned(results.policy(attempt.dataset, name, selection, learner)),
        ]
        for attempt in ATTEMPTS
        if attempt.dataset in results.datasets
        for selection, learner in attempt.policies
        for name in (DEFAULT, *attempt.variants)
    )
    return table(("learner, dataset, selection: variant", "all rows", "curated"), rows)


def _variant(name: str) -> str:
    return "default" if name == DEFAULT else name.removeprefix(f"{DEFAULT}, ")


def _ablations(results: Results) -> str:
    rows = []
    for name in (DEFAULT, *ABLATIONS):
        row = [_variant(name)]
        for dataset in MIXED:
            pair = [results.median(dataset, name, figure) for figure in RANKING[:2]]
            row.append("" if math.isnan(pair[0]) else f"{pair[0]:.2f} / {pair[1]:.2f}")
            row.append(number(results.median(dataset, name, RANKING[-1])))
            row.append(_mean(results.policy(dataset, name, "weights")))
        row += [number(results.median(STITCH, name, figure)) for figure in BETWEEN]
        row.append(_mean(results.policy(RARE, name, "weights")))
        agreement = [results.median(dataset, name, AGREEMENT) for dataset in (*MIXED, STITCH)]
        row.append(number(min((value for value in agreement if not math.isnan(value)), default=math.nan)))
        row.append(number(results.median(RARE, name, AGREEMENT)))
        rows.append(row)
    head = ["variant"]
    for dataset in ("hopper", "halfcheetah"):
        head += [f"{dataset} P / S", f"{dataset} top", f"{dataset} BC"]
    return table((*head, "directed", "between", "hopper 10 % BC", "seeds", "hopper 10 % seeds"), rows)


def _mean(policy: Policy | None) -> str:
    return f"{policy.mean:.0f}" if complete(policy) else ""


def _settings(results: Results) -> str:
    measured = {name for name in results.figures["score"].unique() if name in ABLATIONS}
    rows = (
        [_variant(name), ", ".join(f"`{setting}` {value}" for setting, value in changes(name).items())]
        for name in ABLATIONS
        if name in measured
    )
    return table(("variant", "settings"), rows)
