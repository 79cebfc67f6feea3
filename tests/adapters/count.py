"""Run an example, then draw from what it made and count: ``count.py LIBRARY TRUTH EXAMPLE ARGUMENTS...``.

This runs where the library is, and imports nothing else but numpy. It prints a line of JSON.
"""

import json
import runpy
import sys

import numpy as np

UNIT, DRAWS, BATCH = 4096, 50_000, 1000


def of_corl(made):
    for _ in range(DRAWS // BATCH):
        observation, action, reward, following, end = (
            column.numpy() for column in made["buffer"].sample(BATCH)
        )
        yield observation, action, reward, following, end


def of_torch(made):
    for batch in made["curated"].loader(BATCH, steps=DRAWS // BATCH):
        names = ("observation", "action", "reward", "next_observation", "terminated")
        yield tuple(batch[name].numpy() for name in names)


def of_d3rlpy(made):
    for _ in range(DRAWS // BATCH):
        batch = made["buffer"].sample_transition_batch(BATCH)
        yield batch.observations, batch.actions, batch.rewards, batch.next_observations, batch.terminals


def of_datasets(made):
    for _ in range(4):
        for batch in made["loader"]:
            names = ("observation", "action", "reward", "next_observation", "terminated")
            yield tuple(batch[name].numpy() for name in names)


def of_torchrl(made):
    for _ in range(DRAWS // BATCH):
        batch = made["replay"].sample(BATCH)
        made["replay"].update_tensordict_priority(batch)  # which a learner may do, and must not matter
        following = batch["next"]
        found = batch["observation"], batch["action"], following["reward"], following["observation"]
        yield (*(column.numpy() for column in found), following["terminated"].numpy())


def of_tianshou(made):
    for _ in range(DRAWS // BATCH):
        batch, _ = made["buffer"].sample(BATCH)
        yield batch.obs, batch.act, batch.rew, batch.obs_next, batch.terminated


def of_imitation(made):
    drawn = 0
    while drawn < DRAWS:
        for batch in made["learner"]._demo_data_loader:
            drawn += len(batch["obs"])
            yield np.asarray(batch["obs"]), np.asarray(batch["acts"])


def of_robomimic(made):
    drawn = 0
    while drawn < DRAWS:
        for batch in made["loader"]:
            drawn += len(batch["actions"])
            yield batch["obs"]["state"][:, 0].numpy(), batch["actions"][:, 0].numpy()


def of_lerobot(made):
    for _ in range(10):
        for batch in made["loader"]:
            yield batch["observation.state"].numpy(), batch["action"].numpy()


def counted(batches, truth):
    """Facts of draws: rows that are not as in the source, and how often each was drawn."""
    names = ("observation", "action", "reward", "next_observation", "terminated")
    drawn, wrong, columns = [], 0, 0
    for batch in batches:
        rows = np.rint(np.asarray(batch[0])[:, 0] * UNIT).astype(int)
        differs = np.zeros(len(rows), bool)
        for name, found in zip(names, batch):  # noqa: B905 (some libraries give fewer columns)
            expected = truth[name][rows].reshape(len(rows), -1).astype(np.float64)
            found = np.asarray(found).reshape(len(rows), -1).astype(np.float64)
            counts = ~truth["terminated"][rows] if name == "next_observation" else np.ones(len(rows), bool)
            differs |= ((found != expected).any(1)) & counts
        wrong, columns = wrong + int(differs.sum()), len(batch)
        drawn.append(rows)
    drawn = np.concatenate(drawn)
    allowed = truth["is_learnable"] if columns > 2 else np.ones(len(truth["weight"]), bool)
    weight = np.where(allowed, truth["weight"], 0)
    count, expected = np.bincount(drawn, minlength=len(weight)), len(drawn) * weight / weight.sum()
    often = expected >= 5
    apart = (count - expected)[often] ** 2 / expected[often]
    return {
        "rows": int(allowed.sum()),
        "draws": len(drawn),
        "wrong": wrong,
        "outside": int(count[weight == 0].sum()),
        "correlation": float(np.corrcoef(count, expected)[0, 1]),
        "chi_square": float(apart.mean()),
        "cells": int(often.sum()),
        "spread": float(weight.max() / weight[weight > 0].mean()),
    }


if __name__ == "__main__":
    library, truth_file, *sys.argv = sys.argv[1:]
    with np.load(truth_file) as arrays:
        truth = dict(arrays)
    made = runpy.run_path(sys.argv[0])
    print(json.dumps(counted(globals()[f"of_{library}"](made), truth)))
