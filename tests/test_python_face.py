"""What a person meets in a notebook: names, short representations, progress, messages."""

from __future__ import annotations

import io
import sys

import pytest
from helpers import make_transitions, tiny_settings, write_d4rl

import vaco_curate
from vaco_curate import (
    Cut,
    Scorer,
    TrainedPolicy,
    filter_dataset,
    load_curated,
    open_dataset,
    read_dataset,
    reweight_dataset,
    score_dataset,
)
from vaco_curate.errors import CurateError
from vaco_curate.stages.runs import open_run
from vaco_curate.store import progress


def test_tab_offers_the_public_names_and_no_modules():
    offered = dir(vaco_curate)
    assert "score_dataset" in offered
    assert set(offered) == {*vaco_curate.__all__, "__version__"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pendulum_run, pendulum):
    made = tmp_path_factory.mktemp("face")
    reweight_dataset(pendulum_run, out=made / "weighted")
    return made


def test_representations_are_a_line_with_the_facts(folder, pendulum, pendulum_run):
    shown = {
        repr(
            read_dataset(str(pendulum))
        ): f"<Transitions {pendulum}: 4,000 rows in 20 episodes, observation 3, action 1>",
        repr(open_dataset(str(pendulum))): f"<Dataset {pendulum}: d4rl, 4,000 rows in 1 file>",
        repr(Scorer.load(pendulum_run)): "<Scorer: 1 member, observation 3, action 1, on cpu>",
        repr(
            TrainedPolicy.load(pendulum_run / "policy")
        ): "<TrainedPolicy: observation 3 -> action 1, hidden 32-32>",
    }
    for found, expected in shown.items():
        assert found == expected
    for thing in (open_run(pendulum_run).scores, load_curated(folder / "weighted")):
        assert len(repr(thing)) < 250
        assert "4,000 rows" in repr(thing)


def test_what_is_scored_goes_straight_into_the_next_step(tmp_path, pendulum):
    result = score_dataset(pendulum, out=tmp_path / "run.vaco", settings=tiny_settings(), device="cpu")
    kept = filter_dataset(result, "50%", level="episode")
    assert kept.out == tmp_path / "run.top50pct-episodes"
    assert kept.after.episodes == 10
    assert filter_dataset(str(result.run), top=Cut("50%"), level="episode", if_exists="skip").skipped
    assert result.scores.height == 4000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: filter_dataset(run, "half"), "top 'half' is neither a share such as 50%"),
        (lambda run: filter_dataset(run, "50%", file_format="csv"), "file_format csv: unknown"),
        (lambda run: filter_dataset(run, "50%", if_exists="ask"), "if_exists ask: unknown"),
        (lambda run: filter_dataset(run, "50%", level="row"), "level row: unknown"),
        (lambda run: reweight_dataset(run, clip=0.5), "clip 0.5 must be above 1"),
    ],
)
def test_messages_name_python_arguments(pendulum_run, call, message):
    with pytest.raises(CurateError, match=message.replace("(", r"\(")) as raised:
        call(pendulum_run)
    assert "--" not in str(raised.value)
    assert "--" in "\n".join(raised.value.lines()), "and on the command line its options"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_bars_are_shown_where_somebody_looks(tmp_path, monkeypatch, stream, shown):
    write_d4rl(tmp_path / "d.hdf5", make_transitions())
    monkeypatch.setattr(progress, "SOON", 0.0)
    monkeypatch.setattr(sys, "stderr", stream())
    score_dataset(tmp_path / "d.hdf5", out=tmp_path / "run", settings=tiny_settings(), device="cpu")
    written = sys.stderr.getvalue()
    for task in ("reading", "value phase", "bi-level phase", "scoring"):
        assert (task in written) is shown, (task, written[-300:])


def test_tasks_are_told_from_their_begin_to_their_end():
    told = []
    with progress.listening(lambda task: told.append((task.what, task.done, task.ended))):
        with progress.task("outer", 3):
            progress.advance(1)
            with progress.task("inner", 1):
                progress.advance(1)
            progress.advance(0)
            progress.advance(2)
        progress.advance(5)  # of nothing
    assert told == [
        ("outer", 0, False),
        ("outer", 1, False),
        ("inner", 0, False),
        ("inner", 1, False),
        ("inner", 1, True),
        ("outer", 3, False),
        ("outer", 3, True),
    ]
