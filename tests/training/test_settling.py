"""When a phase ends early."""

from __future__ import annotations

import dataclasses
import math

import polars as pl
import pytest
import torch
from helpers import make_transitions, tiny_settings

from vaco_curate.core.training.settling import LOOKS_TO_SETTLE, Settling, rank_correlation
from vaco_curate.core.training.trainer import train


def settling(rows=50):
    return Settling.new(1, 1, rows, torch.device("cpu"))


def test_rank_correlation_is_spearmans():
    left, right = torch.randn(2, 3, 40)
    ranks = [values.argsort(dim=-1).argsort(dim=-1).float() for values in (left, right)]
    for given, a, b in zip(rank_correlation(*ranks), left, right, strict=True):
        frame = pl.DataFrame({"a": a.numpy(), "b": b.numpy()})
        expected = frame.select(pl.corr("a", "b", method="spearman")).item()
        assert given.item() == pytest.approx(expected, abs=1e-5)


def test_looks_grow_apart_with_the_updates():
    watched, looks = settling(), []
    for update in range(500, 10_001, 500):
        if watched.is_due(update, 1500):
            watched.look(update, torch.randn(1, 1, 50), 0.9)
            looks.append(update)
    assert looks == [1500, 2000, 2500, 3500, 4500, 6000, 7500, 9500]


def test_an_order_settles_when_successive_looks_agree():
    watched, order = settling(), torch.randn(1, 1, 50)
    assert math.isnan(watched.look(1, order, 0.99))
    for count in range(1, LOOKS_TO_SETTLE + 1):
        assert watched.look(1 + count, 3.0 * order - 7.0, 0.99) == pytest.approx(1.0)
        assert watched.settled == count
    assert watched.look(10, -order, 0.99) == pytest.approx(-1.0)
    assert watched.settled == 0


def with_early_stop(settled_at, updates=400):
    settings = tiny_settings(updates=updates, settled_at=settled_at)
    return dataclasses.replace(
        settings, value=dataclasses.replace(settings.value, updates=updates, settled_at=settled_at, polyak=0.5)
    )


def phases(training):
    return {name: [row for row in training.metrics if row["phase"] == name] for name in ("value", "bilevel")}


def test_a_phase_ends_when_the_order_has_settled_and_the_metrics_say_so():
    data = make_transitions()
    for rows in phases(train(data, with_early_stop(0.5))).values():
        assert rows[-1]["update"] < 400
        looked = [row["rank_correlation"] for row in rows if "rank_correlation" in row]
        assert min(looked[-LOOKS_TO_SETTLE:]) >= 0.5


def test_without_a_threshold_or_when_it_is_not_reached_all_updates_are_run():
    data = make_transitions()
    for settled_at in (None, 1.0):
        for rows in phases(train(data, with_early_stop(settled_at, updates=80))).values():
            assert rows[-1]["update"] == 80
