"""``TrainedPolicy``: a policy network with its scaling, from raw observations to raw actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaco_curate.core.artifacts import complete, load_facts, load_tensors, save_artifact
from vaco_curate.core.networks import Policy
from vaco_curate.core.scaling import Scaling
from vaco_curate.core.transitions import Array

KIND = "vaco-curate policy"
SCHEMA_VERSION = 3


@dataclass(frozen=True)
class TrainedPolicy:
    """A deterministic policy in the units of its environment."""

    network: Policy
    scaling: Scaling
    hidden: tuple[int, ...]

    def __repr__(self) -> str:
        hidden = "-".join(map(str, self.hidden))
        actions = len(self.scaling.action_low)
        return f"<TrainedPolicy: observation {self.observation_size} -> action {actions}, hidden {hidden}>"

    @property
    def observation_size(self) -> int:
        """d that the policy takes."""
        return len(self.scaling.observation_mean)

    @torch.no_grad()
    def act(self, observation: Array) -> Array:
        """Raw observations (n, d) -> raw actions (n, k), float32."""
        device = next(self.network.parameters()).device
        inputs = torch.from_numpy(self.scaling.observation(observation)).to(device)
        return self.scaling.raw_action(self.network(inputs).cpu().numpy())

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write ``policy.safetensors`` and ``policy.json``.

        Args:
            provenance: what it was trained on and how, JSON values.
        """
        facts = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "inputs": {"observation": len(self.scaling.observation_mean)},
            "outputs": {"action": len(self.scaling.action_low)},
            "hidden": self.hidden,
            "scaling": self.scaling.to_json(),
            "provenance": dict(provenance),
        }
        save_artifact(folder, "policy", self.network.state_dict(), facts)

    @classmethod
    def load(cls, folder: Path) -> TrainedPolicy:
        """Read what ``save`` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        facts = load_facts(folder, "policy", KIND, SCHEMA_VERSION)
        with complete(folder, "policy"):
            scaling = Scaling.from_json(facts["scaling"])
            network = Policy(len(scaling.observation_mean), len(scaling.action_low), facts["hidden"])
        load_tensors(folder, "policy", facts, network.state_dict())
        return cls(network.eval(), scaling, tuple(facts["hidden"]))
