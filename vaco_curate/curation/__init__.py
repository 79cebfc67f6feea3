"""From scores to selections and weights, and to the facts about them."""

from vaco_curate.curation.candidates import ORDERS, By, Candidates
from vaco_curate.curation.cut import EPISODE, TRANSITION, Cut, Level
from vaco_curate.curation.selection import Selection, episode_means, means_of, select
from vaco_curate.curation.summary import QUANTILES, Summary, before_and_after, summarize, summary_of_kept
from vaco_curate.curation.weights import effective_sample_share, reweight

__all__ = [
    "EPISODE",
    "ORDERS",
    "QUANTILES",
    "TRANSITION",
    "By",
    "Candidates",
    "Cut",
    "Level",
    "Selection",
    "Summary",
    "before_and_after",
    "effective_sample_share",
    "episode_means",
    "means_of",
    "reweight",
    "select",
    "summarize",
    "summary_of_kept",
]
