"""Figures of merit of a score, against labels and returns that it was not made from."""

from __future__ import annotations

import warnings

import numpy as np
from datasets import Labelled
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr
from signals import Signal
from sklearn.metrics import roc_auc_score

from vaco_curate.curation import episode_means
from vaco_curate.curation.weights import effective_sample_share
from vaco_curate.transitions import Array

TOP = 0.1


def figures(labelled: Labelled, signal: Signal) -> dict[str, float]:
    """All figures that make sense for a dataset; nan where one is not defined."""
    found = {}
    if signal.weight is not None:
        found = {
            "effective sample size": effective_sample_share(signal.weight),
            "weight on the best": float(signal.weight[labelled.is_best].sum() / signal.weight.sum()),
        }
    if "to_middle" in labelled.names:
        return found | _stitch(labelled, signal.score)
    return found | _ranking(labelled, signal.score)


def sizes(labelled: Labelled) -> dict[str, float]:
    """Of a dataset."""
    return {
        "rows": len(labelled.data),
        "episodes": len(labelled.data.episode_start),
        "episodes by the best": int(labelled.episode_is_best.sum()),
    }


def rank_correlation(left: Array, right: Array) -> float:
    """Spearman's, nan where one is constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(spearmanr(left, right).statistic)


def _ranking(labelled: Labelled, score: Array) -> dict[str, float]:
    data = labelled.data
    means = episode_means(data, score)
    best, best_episode = labelled.is_best, labelled.episode_is_best
    order = np.argsort(-means, kind="stable")
    budget = round(TOP * len(data))
    fitting = int(np.searchsorted(np.cumsum(data.episode_length[order]), budget, side="right"))
    chosen = order[: max(1, fitting)]
    length = data.episode_length[chosen]
    top_rows = np.argsort(-score, kind="stable")[: max(1, budget)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        pearson = float(pearsonr(means, data.episode_return).statistic)
    return {
        "share of the best": float(best.mean()),
        "Pearson": pearson,
        "Spearman": rank_correlation(means, data.episode_return),
        "AUC, rows": roc_auc_score(best, score),
        "AUC, episodes": roc_auc_score(best_episode, means),
        "best in top 10 %, rows": float(best[top_rows].mean()),
        "best in top 10 %, episodes": float(length[best_episode[chosen]].sum() / length.sum()),
    }


def _stitch(labelled: Labelled, score: Array) -> dict[str, float]:
    first, second, random = (labelled.rows_by(name) for name in ("to_middle", "middle_to_goal", "random"))
    directed = first | second
    order = np.argsort(-score, kind="stable")
    top_half, top = order[: len(score) // 2], order[: round(TOP * len(score))]
    return {
        "AUC, directed against random": roc_auc_score(directed, score),
        "AUC, second against first": roc_auc_score(second[directed], score[directed]),
        "first half in top 50 %": float(first[top_half].mean()),
        "second half in top 50 %": float(second[top_half].mean()),
        "random in top 50 %": float(random[top_half].mean()),
        "second half in top 10 %": float(second[top].mean()),
        "random in top 10 %": float(random[top].mean()),
    }
