"""Named settings: what ``--preset`` chooses from."""

from __future__ import annotations

from collections.abc import Mapping

from vaco_curate.core.training.settings import BilevelSettings, TrainSettings, ValueSettings

PRESETS: Mapping[str, TrainSettings] = {
    "quick": TrainSettings(value=ValueSettings(updates=20_000), bilevel=BilevelSettings(updates=0)),
    "standard": TrainSettings(),
    "paper": TrainSettings(
        value=ValueSettings(updates=1_000_000, settled_at=None),
        bilevel=BilevelSettings(updates=1_000_000, scorer_learning_rate=3e-5, settled_at=None),
        matmul_precision="highest",
    ),
}
