"""The fastest updates there are where the networks lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaco_curate.core.fast.passes import has_triton
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.training.bilevel_update import BilevelState, BilevelUpdate
from vaco_curate.core.training.lower_level import CloningUpdate
from vaco_curate.core.training.optim import Adam
from vaco_curate.core.training.settings import ValueSettings
from vaco_curate.core.training.value_update import ValueState, ValueUpdate

if TYPE_CHECKING:
    from vaco_curate.core.training.triton_updates import (
        TritonBilevelUpdate,
        TritonCloningUpdate,
        TritonValueUpdate,
    )


def value_update(state: ValueState, settings: ValueSettings) -> ValueUpdate | TritonValueUpdate:
    """For V and the critics of a state."""
    if _have_kernels(state.value, state.critic):
        from vaco_curate.core.training.triton_updates import TritonValueUpdate

        return TritonValueUpdate(state, settings)
    return ValueUpdate(state, settings)


def bilevel_update(
    state: BilevelState, critic: StackedMLP, batch_size: int
) -> BilevelUpdate | TritonBilevelUpdate:
    """For policies and scorers of a state, by the given critics."""
    if _have_kernels(state.policy, state.scorer) and _have_kernels(critic):
        from vaco_curate.core.training.triton_updates import TritonBilevelUpdate

        return TritonBilevelUpdate(state, critic, batch_size)
    return BilevelUpdate(state, critic, batch_size)


def cloning_update(policy: StackedMLP, optimizer: Adam, batch_size: int) -> CloningUpdate | TritonCloningUpdate:
    """For policies that are cloned."""
    if _have_kernels(policy):
        from vaco_curate.core.training.triton_updates import TritonCloningUpdate

        return TritonCloningUpdate(policy, optimizer, batch_size)
    return CloningUpdate(policy, optimizer, batch_size)


def _have_kernels(*stacks: StackedMLP) -> bool:
    if not (stacks[0].flat.is_cuda and has_triton()):
        return False
    from vaco_curate.core.training.triton_updates import fit

    return fit(*stacks)
