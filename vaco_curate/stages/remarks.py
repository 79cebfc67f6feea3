"""What a filter or a reweighting says beside its result."""

from __future__ import annotations

from fractions import Fraction

from vaco_curate.curation import EPISODE, Cut, Level, Summary
from vaco_curate.curation.advice import ROWS_OF, Standing
from vaco_curate.curation.health import Sign
from vaco_curate.stages.runs import Run
from vaco_curate.stages.words import counted
from vaco_curate.wording import Note, as_notes

LIKE_A_SHARE = 100
"""A number of rows or episodes up to this may be a share whose sign was forgotten."""


def doubts(cut: Cut, before: Summary) -> list[str]:
    """What a number keeps, where it keeps all there is, or may have been meant as a share."""
    if isinstance(cut.episodes, int):
        number, there, unit, end = cut.episodes, before.episodes, "episode", "ep"
        may_be_share = there < 2 * number  # fewer of many are a choice
    elif cut.rows is not None and not cut.is_budget:
        number, there, unit, end = cut.rows, before.rows, "row", ""
        may_be_share = True
    else:
        return []
    share = f"; for {number} % of them give {number}%{end}"
    if number >= there:
        keeps = f"{number}{end} drops none of {counted(there, unit)}"
        return [keeps + share * (number < LIKE_A_SHARE)] if cut.budget is None else []
    if may_be_share and number <= LIKE_A_SHARE != there:
        return [f"{number}{end} keeps {counted(number, unit)}{share}"]
    return []


def mixed_episodes(run: Run, level: Level) -> list[str]:
    """A caution where whole episodes are kept of which each has good and bad rows."""
    if level != EPISODE or run.manifest["persists_over"] != "some steps":
        return []
    return [
        "good and bad rows lie in one episode here: whole episodes keep both, and a higher mean return than "
        "that of a filter of rows does not make them better"
    ]


def advice(run: Run, cut: Cut, by: str) -> list[str]:
    """What the board says of filters by score on such data, to who keeps another share than it advises."""
    standing = Standing.of(run.manifest)
    columns = {column for of_learner in standing.advised.values() for column in of_learner}
    advised = {ROWS_OF[column] for column in columns & ROWS_OF.keys()}
    kept = None if cut.share is None else 100 * Fraction(cut.share)
    return [] if by != "score" or cut.worst or kept in advised else standing.advice


def signs_of_scores(run: Run) -> list[Sign]:
    """What was said of the scores when they were made; not of the weights, which are others here."""
    signs = [Sign(**sign) for sign in run.manifest["warnings"]]
    return [sign for sign in signs if sign.against != "weights"]


def texts(signs: list[Sign]) -> tuple[Note, ...]:
    """Each warning once."""
    return as_notes(dict.fromkeys(sign.text for sign in signs))
