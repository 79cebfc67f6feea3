"""Named settings: what ``--preset`` chooses from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaco_curate.core.training.settings import BilevelSettings, TrainSettings, ValueSettings
from vaco_curate.errors import SettingsError

PRESETS: Mapping[str, TrainSettings] = {
    "quick": TrainSettings(value=ValueSettings(updates=20_000), bilevel=BilevelSettings(updates=0)),
    "standard": TrainSettings(),
    "paper": TrainSettings(
        value=ValueSettings(updates=1_000_000, settled_at=None),
        bilevel=BilevelSettings(updates=1_000_000, scorer_learning_rate=3e-5, settled_at=None),
        matmul_precision="highest",
    ),
}


def chosen_settings(given: Any) -> TrainSettings:
    """Settings, or those of a preset by its name.

    Raises:
        SettingsError: an unknown name, or neither.
    """
    if isinstance(given, TrainSettings):
        return given
    if not isinstance(given, str):
        raise SettingsError(
            f"settings: TrainSettings or the name of a preset are needed, not {type(given).__name__}",
            fix=f"give one of {', '.join(PRESETS)}, or a TrainSettings",
        )
    if given not in PRESETS:
        raise SettingsError(f"--preset {given}: unknown", fix=f"choose from {', '.join(PRESETS)}")
    return PRESETS[given]
