"""The training core: imports torch, numpy and safetensors only."""

from vaco_curate.core.training.arithmetic import arithmetic, chosen_device, device_name
from vaco_curate.core.training.loop import OnProgress, Progress
from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.training.settings import (
    BilevelSettings,
    TrainSettings,
    ValueSettings,
    settings_from_json,
)
from vaco_curate.core.training.trainer import Training, train

__all__ = [
    "PRESETS",
    "BilevelSettings",
    "OnProgress",
    "Progress",
    "TrainSettings",
    "Training",
    "ValueSettings",
    "arithmetic",
    "chosen_device",
    "device_name",
    "settings_from_json",
    "train",
]
