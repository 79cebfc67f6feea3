"""Figures of merit of a score, against labels and returns that it was not made from."""

from __future__ import annotations

import warnings

import numpy as np
from datasets import Labelled
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from vaco_curate.core.transitions import Array
from vaco_curate.curation import episode_means
from vaco_curate.curation.weights import effective_sample_share, weights_from_scores

TOP = 0.1


def rank_correlation(left: Array, right: Array) -> float:
    """Spearman's, nan where one is constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(spearmanr(left, right).statistic)


def figures(labelled: Labelled, score: Array) -> dict[str, float]:
    """All figures of a score, (n,)."""
    data, best = labelled.data, labelled.is_best
    means, weight = episode_means(data, score), weights_from_scores(score, 1.0)
    top_rows = np.argsort(-score, kind="stable")[: round(TOP * len(data))]
    return {
        "share of the best": float(best.mean()),
        "Pearson": float(pearsonr(means, data.episode_return).statistic),
        "Spearman": rank_correlation(means, data.episode_return),
        "AUC": roc_auc_score(best, score),
        "best in top 10 %": float(best[top_rows].mean()),
        "effective sample size": effective_sample_share(weight),
        "weight on the best": float(weight[best].sum() / weight.sum()),
        "score against length": rank_correlation(means, data.episode_length),
    }
