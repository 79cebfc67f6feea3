"""Charts of the facts of a report: one function for each, by Altair."""

from __future__ import annotations

from vaco_curate.reporting.facts import ReportFacts
from vaco_curate.reporting.figures import comparing, keeping, relations, scores, training
from vaco_curate.reporting.figures.base import Figure
from vaco_curate.reporting.projection import Projection


def figures(facts: ReportFacts) -> dict[str, Figure]:
    """All figures that there are facts for, by name, in the order of the report."""
    found = {
        "keep": keeping.mean_return(facts),
        "histogram": scores.histogram(facts),
        "returns": relations.returns(facts) if facts.outcomes is None else relations.outcomes(facts),
        "course": scores.course(facts),
    }
    if isinstance(facts.projection, Projection):
        found["projection"] = keeping.projection(facts, facts.projection)
    found["weights"] = scores.weights(facts)
    if facts.outcomes is None:
        found["length"] = relations.length(facts)
    found["order"] = relations.order(facts)
    if facts.groups is not None:
        found["groups"] = relations.groups(facts.groups)
    if facts.uncertainty is not None:
        found["spread"] = scores.spread(facts.uncertainty)
    if facts.comparison is not None:
        found["comparison"] = comparing.runs(facts.comparison)
    if facts.curves is not None:
        found |= training.curves(facts.curves)
    return found


__all__ = ["Figure", "figures"]
