"""What is asked of a training, and whether an unfinished run is that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaco_curate.arguments import whole_number
from vaco_curate.core.training.arithmetic import chosen_device
from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.training.settings import TrainSettings, settings_from_json
from vaco_curate.data.formats import ReadOptions
from vaco_curate.errors import RunError, SettingsError
from vaco_curate.stages.sources import Settled
from vaco_curate.store.folders import (
    RUN,
    is_complete,
    refuse_existing,
    unfinished_folder,
)
from vaco_curate.store.manifest import FILE_NAME, read_manifest
from vaco_curate.store.requests import difference

LARGEST_SEED = 2**62
LARGEST_MEMBERS = 256


@dataclass(frozen=True)
class Request:
    """What is to be done, with nothing left open.

    Attributes:
        out, work: the run folder, and where it lies until it is complete.
        began: the manifest of the unfinished run to continue; None for a fresh start.
    """

    source: str
    out: Path
    work: Path
    began: dict[str, Any] | None
    settings: TrainSettings
    seed: int
    members: int
    read_options: ReadOptions
    device: torch.device


def checked_numbers(seed: int | None, members: int | None) -> tuple[int | None, int | None]:
    """The seed and the number of members as Python's numbers.

    Raises:
        SettingsError: one is out of range.
    """
    if members is not None:
        members = whole_number(members, "--members")
        if not 1 <= members <= LARGEST_MEMBERS:
            raise SettingsError(f"--members {members} must be from 1 to {LARGEST_MEMBERS}")
    if seed is not None:
        seed = whole_number(seed, "--seed")
        if seed >= LARGEST_SEED:
            raise SettingsError(f"--seed {seed} must be below 2**62")
    return seed, members


def prepare(
    where: Settled,
    settings: TrainSettings | None,
    seed: int | None,
    members: int | None,
    read_options: ReadOptions | None,
    device: str,
    on_note: Callable[[str], None],
    *,
    resume: bool,
    replace: bool,
) -> Request:
    """Fill in what is not given: from the run that is continued, or else the defaults."""
    torch_device = chosen_device(device)
    out = where.run
    work = unfinished_folder(out)
    found = _unfinished_run(out, work, resume=resume, replace=replace)
    if resume and found is None:
        on_note(f"there is no unfinished run of {out} to resume: it begins anew")
    began = None if replace else found  # what is replaced gives no values
    if settings is None:
        settings = PRESETS["standard"] if began is None else _began_settings(work, began)
    if seed is None:
        seed = 0 if began is None else int(began["seed"])
    if members is None:
        members = 1 if began is None else int(began["members"])
    if read_options is None:
        read_options = (
            ReadOptions() if began is None else ReadOptions.from_json(began["dataset"]["read_options"])
        )
    return Request(where.address, out, work, found, settings, seed, members, read_options, torch_device)


def continued_or_anew(
    request: Request, manifest: dict[str, Any], on_note: Callable[[str], None], *, replace: bool
) -> Request:
    """The request, to be begun anew where the unfinished run is another one and may be replaced.

    Raises:
        RunError: it is another one, and may not.
    """
    if request.began is None:
        return request
    try:
        _check_same_run(request.work, request.began, manifest)
    except RunError as error:
        if not replace:
            raise
        on_note(f"{error.problem}; it is replaced")
        return dataclasses.replace(request, began=None)
    return request


def _unfinished_run(out: Path, work: Path, *, resume: bool, replace: bool) -> dict[str, Any] | None:
    """The manifest of the unfinished run to go on with, None to begin anew; refuses what is in the way."""
    if not (resume and (work / FILE_NAME).is_file()):
        if resume and not replace and is_complete(out, RUN):
            raise RunError(
                f"{out} is finished, there is nothing to resume",
                fix="give --if-exists skip to leave it, or --if-exists replace to train again",
            )
        if (work / FILE_NAME).is_file() and not replace:
            raise RunError(
                f"{work} holds an unfinished run",
                fix="continue it with --resume, or start over with --if-exists replace",
            )
        refuse_existing(work, RUN, replace=replace)
        refuse_existing(out, RUN, replace=replace)
        return None
    refuse_existing(out, RUN, replace=replace)
    return read_manifest(work)


def _began_settings(work: Path, began: dict[str, Any]) -> TrainSettings:
    try:
        return settings_from_json(began["settings"], TrainSettings())
    except SettingsError as error:
        raise RunError(
            f"{work}: the unfinished run began with settings that this version does not have",
            details=(str(error).splitlines()[0],),
            fix="start over with --if-exists replace",
        ) from error


def _check_same_run(work: Path, began: dict[str, Any], now_asked: dict[str, Any]) -> None:
    pairs = {
        "dataset": (began["dataset"]["fingerprint"], now_asked["dataset"]["fingerprint"]),
        "settings": (_began_settings(work, began).to_json(), now_asked["settings"]),
        "seed": (began["seed"], now_asked["seed"]),
        "members": (began["members"], now_asked["members"]),
        "device": (began["device"], now_asked["device"]),
        "arithmetic": (began["arithmetic"], now_asked["arithmetic"]),
    }
    changed = [name for name, (before, after) in pairs.items() if before != after]
    if changed == ["arithmetic"]:
        raise RunError(
            f"{work}: the unfinished run began with another arithmetic, so it cannot be continued exactly",
            details=(f"began: {began['arithmetic']}", f"now:   {now_asked['arithmetic']}"),
            fix="resume where C compiler, VACO_CURATE_NATIVE and Triton are as they were, or start over with "
            "--if-exists replace",
        )
    if changed:
        raise RunError(
            f"{work}: the unfinished run began with other values of: {', '.join(changed)}",
            details=tuple(difference(name, *pairs[name]) for name in changed),
            fix="resume with what it began with (leave the options out), or begin anew: --if-exists replace",
        )
