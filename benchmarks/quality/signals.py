"""What is compared: VACO as published and as it is by default, and the plain signals beside it."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import STITCH

from vaco_curate import PRESETS, TrainSettings
from vaco_curate.curation.weights import weights_from_scores
from vaco_curate.losses import advantage_weight
from vaco_curate.scaling import Scaling, fit_scaling
from vaco_curate.scorer import Scorer
from vaco_curate.training import Progress, train
from vaco_curate.transitions import Array, Transitions

LITERAL_UPDATES = (30_000, 60_000)
"""Of the literal preset here: K1 and K2 are not published, and the preset's own million of each would take an
hour a training. Its scorer's rate is a tenth of the default's, hence ten times the default's updates."""


def altered(base: TrainSettings, value: Mapping[str, Any], bilevel: Mapping[str, Any]) -> TrainSettings:
    """Settings with other values."""
    return dataclasses.replace(
        base,
        value=dataclasses.replace(base.value, **value),
        bilevel=dataclasses.replace(base.bilevel, **bilevel),
    )


DEFAULT, LITERAL, PRIOR_ALONE = "VACO", "VACO, paper", "VACO, prior alone"
VARIANTS: dict[str, TrainSettings] = {
    DEFAULT: PRESETS["standard"],
    LITERAL: altered(PRESETS["paper"], {"updates": LITERAL_UPDATES[0]}, {"updates": LITERAL_UPDATES[1]}),
}
ABLATIONS: dict[str, TrainSettings] = {
    f"{DEFAULT}, {name}": altered(PRESETS["standard"], value, bilevel)
    for name, value, bilevel in (
        ("quick", {"updates": PRESETS["quick"].value.updates}, {}),
        ("prior alone", {}, {"score_bound": 1e-6}),
        (
            "uniform prior, KL 1",
            {},
            {"prior": "uniform", "divergence_coefficient": 1.0, "data_divergence_coefficient": 0.0},
        ),
        ("upper level over the data's states", {}, {"upper_states": "data"}),
        ("KL 0", {}, {"divergence_coefficient": 0.0}),
        ("KL 1", {}, {"divergence_coefficient": 1.0}),
        ("KL over the data 0", {}, {"data_divergence_coefficient": 0.0}),
        ("no plateau", {}, {"prior_plateau": 0.0}),
        ("sample size 0.12, no plateau", {}, {"prior_sample_size": 0.12, "prior_plateau": 0.0}),
        ("sample size 0.1, no plateau", {}, {"prior_sample_size": 0.1, "prior_plateau": 0.0}),
        ("sample size 0.35", {}, {"prior_sample_size": 0.35}),
        ("sample size 0.1", {}, {"prior_sample_size": 0.1}),
        ("path discount 1", {}, {"path_discount": 1.0}),
        ("all starts alike", {}, {"start_bandwidth": 1e6}),
        ("paths of 100 steps", {}, {"longest_path": 100}),
        ("sigmoid, unbounded", {}, {"activation": "sigmoid", "score_bound": None}),
        ("w not normalized", {}, {"normalize_weights": False}),
        ("Q not standardized", {}, {"standardize_q": False}),
        ("c not standardized", {}, {"standardize_alignment": False}),
        ("scorer rate 3e-5", {}, {"scorer_learning_rate": 3e-5}),
        ("scorer rate 1e-3", {}, {"scorer_learning_rate": 1e-3}),
        ("without s", {}, {"inputs": ("action", "q")}),
        ("without a", {}, {"inputs": ("state", "q")}),
        ("without Q", {}, {"inputs": ("state", "action")}),
        ("with V", {}, {"inputs": ("state", "action", "q", "value")}),
        ("scorer averaged over 1,000 updates", {}, {"scorer_average": 0.999}),
        ("four members", {}, {}),
        ("no noise", {}, {"noise": (0.0, 0.0)}),
        ("constant noise 0.2", {}, {"noise": (0.2, 0.2)}),
        ("noise on the action", {}, {"noise_on": "action"}),
        ("K1 = 8k", {"updates": 8_000, "settled_at": None}, {}),
        ("K1 = 30k", {"updates": 30_000, "settled_at": None}, {}),
        ("K2 = 1.5k", {}, {"updates": 1_500, "settled_at": None}),
        ("K2 = 20k", {}, {"updates": 20_000, "settled_at": None}),
        ("expectile 0.9", {"expectile": 0.9}, {}),
        ("reward horizon 1000", {"reward_horizon": 1000}, {}),
    )
}


@dataclass(frozen=True)
class Attempt:
    """What was tried on a dataset where the default misses a goal.

    Attributes:
        dataset: one may have several attempts.
        variants: of ``ABLATIONS``.
        policies: selection and learner by which a goal is missed, beside cloning by the weights.
    """

    dataset: str
    variants: tuple[str, ...]
    policies: tuple[tuple[str, str], ...] = ()


def _variants(*names: str) -> tuple[str, ...]:
    return tuple(f"{DEFAULT}, {name}" for name in names)


LARGER_SAMPLE = _variants("no plateau", "sample size 0.12, no plateau", "sample size 0.1, no plateau")
OTHER_ROWS = _variants("KL 0", "path discount 1", "paths of 100 steps")
ATTEMPTS = (
    Attempt("hopper-mixed", OTHER_ROWS, (("top 25 %", "IQL"),)),
    Attempt("halfcheetah-mixed", LARGER_SAMPLE, (("weights", "TD3+BC"),)),
    Attempt("halfcheetah-mixed", OTHER_ROWS, (("top 25 %", "IQL"), ("top 25 %", "TD3+BC"))),
    Attempt(STITCH, _variants("KL 1", "KL 0", "uniform prior, KL 1"), (("top 10 %", "IQL"),)),
    Attempt("hopper-5-percent-best", LARGER_SAMPLE),
    Attempt("hopper-10-percent-best", LARGER_SAMPLE),
    Attempt("lander-5-percent-best", LARGER_SAMPLE),
    Attempt("lander-10-percent-best", LARGER_SAMPLE),
    Attempt("halfcheetah-5-percent-best", LARGER_SAMPLE, (("top 25 %", "BC"),)),
    Attempt("halfcheetah-10-percent-best", (*LARGER_SAMPLE, *_variants("KL over the data 0"))),
    Attempt("mountain-car-10-percent-best", LARGER_SAMPLE),
    Attempt(
        "mountain-car-mixed",
        _variants("sample size 0.35", "sample size 0.1", "KL 1"),
        (("top 10 %", "BC"), ("top 25 %", "BC")),
    ),
    Attempt("pendulum-50-percent-best", LARGER_SAMPLE[:1], (("top 10 %", "BC"),)),
)
"""The last is for the smoke protocol."""
MEMBERS = {f"{DEFAULT}, four members": 4}
"""Of the variants that have several; their seeds have no member in common."""


def changes(name: str) -> dict[str, Any]:
    """What a variant sets otherwise than the default, by name."""
    settings = (VARIANTS | ABLATIONS)[name]
    found = {"members": MEMBERS[name]} if name in MEMBERS else {}
    for phase in ("value", "bilevel"):
        default = dataclasses.asdict(getattr(VARIANTS[DEFAULT], phase))
        for field, value in dataclasses.asdict(getattr(settings, phase)).items():
            if value != default[field]:
                found[f"{phase}.{field}"] = value
    return found


def alters_prior(name: str) -> bool:
    """Whether an ablation gives the prior another form, or the network another say beside it."""
    if name == PRIOR_ALONE:
        return True
    fields = ("prior", "prior_sample_size", "prior_plateau", "path_discount", "longest_path")
    fields += ("start_bandwidth", "divergence_coefficient", "data_divergence_coefficient")
    altered_one, default = ABLATIONS[name].bilevel, VARIANTS[DEFAULT].bilevel
    return any(getattr(altered_one, field) != getattr(default, field) for field in fields)


def alters_plateau(name: str) -> bool:
    """Whether an ablation changes the rule for the plateau, which acts only where the best is rare."""
    return ABLATIONS[name].bilevel.prior_plateau != VARIANTS[DEFAULT].bilevel.prior_plateau


AFTER_VALUES = (
    "updates",
    "settled_at",
    "activation",
    "divergence_coefficient",
    "data_divergence_coefficient",
    "upper_states",
    "prior_sample_size",
    "prior_plateau",
    "start_bandwidth",
    "normalize_weights",
    "standardize_q",
    "standardize_alignment",
    "policy_learning_rate",
    "scorer_learning_rate",
    "scorer_average",
    "noise",
    "noise_on",
)
"""Bi-level settings that decide neither the first networks nor when the value phase ends."""


def values_of(settings: TrainSettings, members: int) -> dict[str, Any]:
    """What, with data and seed, decides the state of a training at the end of its value phase."""
    facts: dict[str, Any] = settings.to_json()
    bilevel = {name: value for name, value in facts["bilevel"].items() if name not in AFTER_VALUES}
    return facts | {"bilevel": bilevel, "members": members}


@dataclass(frozen=True)
class Signal:
    """A score of every row.

    Attributes:
        score: (n,) larger is better.
        weight: (n,) of mean 1, where the signal is one that data is weighted by.
    """

    score: Array
    weight: Array | None = None


def train_scorer(
    data: Transitions, settings: TrainSettings, seed: int, members: int, values: Path | None
) -> Scorer:
    """Train; if ``values`` holds the state at the end of the value phase, begin there, and else leave it there.

    The scorer is the same either way, bit for bit.
    """
    if values is None:
        return train(data, settings, seed=seed, members=members).scorer
    with tempfile.TemporaryDirectory(dir=values.parent) as folder:
        checkpoint = Path(folder) / "checkpoint"
        if values.exists():
            shutil.copyfile(values, checkpoint)

        def leave(progress: Progress) -> None:
            if progress.phase == "bilevel" and progress.update == 0 and not values.exists():
                copy = Path(folder) / "values"
                shutil.copyfile(checkpoint, copy)
                copy.replace(values)

        training = train(
            data, settings, seed=seed, members=members, checkpoint=checkpoint, resume=True, on_progress=leave
        )
    return training.scorer


def train_signals(
    data: Transitions, name: str, settings: TrainSettings, seed: int, values: Path | None
) -> dict[str, Signal]:
    """The scores of one training, and with the default the plain signals of the same critics.

    Args:
        values: as for ``train_scorer``.
    """
    members = MEMBERS.get(name, 1)
    scorer = train_scorer(data, settings, members * seed, members, values)
    scores = scorer.score(data)
    signals = {name: Signal(scores.score, weights_from_scores(scores.score, 1.0))}
    if name == DEFAULT:
        q_value, advantage = scores.q_value.astype(np.float64), scores.advantage.astype(np.float64)
        awr = advantage_weight(torch.from_numpy(advantage * scorer.scaling.reward_scale)).numpy()
        inverse = 1.0 / np.maximum(q_value - q_value.min(), 1e-3 * np.ptp(q_value))
        signals |= {
            "Q": Signal(q_value),
            "V": Signal(q_value - advantage),
            "advantage": Signal(advantage),
            "AWR weight": Signal(awr, awr / awr.mean()),
            "1 / Q": Signal(inverse, inverse / inverse.mean()),
        }
    return signals


def free_signals(data: Transitions, seed: int) -> dict[str, Signal]:
    """What needs no training."""
    return {
        "return": Signal(np.repeat(data.episode_return, data.episode_length)),
        "random": Signal(np.random.default_rng(seed).random(len(data))),
    }


def scaling_of(data: Transitions, settings: TrainSettings) -> Scaling:
    """That every policy of a dataset is trained with, whatever rows it learns from."""
    value = settings.value
    return fit_scaling(data, reward_shift=value.reward_shift, reward_horizon=value.reward_horizon)
