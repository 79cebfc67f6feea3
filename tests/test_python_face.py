"""What a person meets in a notebook: names, short representations, progress, messages."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
import sys
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest
from helpers import make_transitions, tiny_settings, write_d4rl

import vaco_curate
from vaco_curate import (
    EPISODE,
    PRESETS,
    Cut,
    Level,
    Scorer,
    TrainedPolicy,
    convert_dataset,
    filter_dataset,
    inspect_dataset,
    load_curated,
    open_dataset,
    read_dataset,
    report_run,
    reweight_dataset,
    score_dataset,
    verify_folder,
    wording,
)
from vaco_curate.core.training import presets
from vaco_curate.core.training.loop import Progress
from vaco_curate.curation import ORDERS
from vaco_curate.errors import CurateError
from vaco_curate.stages.evaluate import EvaluationResult, PolicyResult
from vaco_curate.stages.outputs import FILTER_FORMATS, WEIGHT_FORMATS
from vaco_curate.stages.runs import open_run
from vaco_curate.stages.score_runs import recorded_result
from vaco_curate.stages.training_tasks import training_tasks
from vaco_curate.stages.words import warned
from vaco_curate.store import progress
from vaco_curate.store.engines import ENGINES
from vaco_curate.store.folders import IfExists
from vaco_curate.store.manifest import read_manifest
from vaco_curate_cli.main import main


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


def test_results_are_a_line_with_the_facts(tmp_path, pendulum, pendulum_run):
    kept = filter_dataset(pendulum_run, "10%", out=tmp_path / "best")
    mean = kept.after.return_mean
    score = open_run(pendulum_run).manifest
    effective = f"{score['effective_episodes']:,.1f} effective episodes"
    of_report = report_run(pendulum_run)
    alike = next(found.spearman for found in of_report.correlations if found.signal == "score")
    policies = [
        PolicyResult("curated", 400, [[-12.5]], -12.5, None, None),
        PolicyResult("uniform", 4000, [[-1234.5]], -1234.5, None, None),
    ]
    shown = {
        f"<SelectionResult {tmp_path}/best: 400 of 4,000 rows, {kept.after.episodes} of 20 episodes, "
        f"mean return {mean:.4g}{warned(kept.warnings)}>": kept,
        f"<ScoreResult {pendulum_run}: 4,000 rows in 20 episodes, {effective}"
        f"{warned(score['warnings'])}>": recorded_result(pendulum_run, score),
        f"<ReportResult {pendulum_run}/report.html: scores and returns agree by {alike:.2f} (Spearman)"
        f"{warned(of_report.warnings)}>": of_report,
        f"<ConvertResult {tmp_path}/out: 4,000 rows in 20 episodes, 2 files>": convert_dataset(
            pendulum, tmp_path / "out", rows_per_shard=2000
        ),
        f"<Verification {tmp_path}/out: converted, 3 checks, none failed>": verify_folder(tmp_path / "out"),
        "<EvaluationResult best: mean returns in Pendulum-v1: curated -12.5, uniform -1,234>": (
            EvaluationResult(Path("best"), "", "Pendulum-v1", 1, 1, policies)
        ),
    }
    for expected, result in shown.items():
        assert repr(result) == expected
    found = inspect_dataset(pendulum)
    assert repr(found).startswith(
        f"<Inspection {pendulum}: d4rl, 4,000 rows in 20 episodes, observation 3, action 1, mean return -"
    )
    assert repr(dataclasses.replace(found, problems=["one"])).endswith(", 1 problem>")
    assert repr(dataclasses.replace(kept, out=None, warnings=("a", "b"))).endswith(", 2 warnings>")
    next((tmp_path / "best" / "data").iterdir()).unlink()
    assert "failed>" in repr(verify_folder(tmp_path / "best"))


@pytest.mark.parametrize(
    "written",
    [
        'Cut("50%")',
        'Cut("12.5%")',
        'Cut("20000")',
        'Cut("80%ep")',
        'Cut("64ep", worst=True)',
        'Cut("33%", budget=100)',
        "Cut(budget=100)",
        "Cut(threshold=0.5)",
        "Cut(share=Fraction(1, 3))",
        "Cut(episodes=Fraction(2, 3))",
        'Level("window:50")',
        'Level("episode")',
    ],
)
def test_what_is_asked_for_is_shown_as_it_can_be_written(written):
    assert repr(eval(written, {"Cut": Cut, "Level": Level, "Fraction": Fraction})) == written


def test_settings_are_shown_by_the_name_of_their_preset():
    assert repr(PRESETS["quick"]) == "<TrainSettings: preset quick>"
    assert "sample_size=0.3" in repr(dataclasses.replace(PRESETS["quick"], sample_size=0.3))


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
        (lambda run: filter_dataset(run, "50%", level=5), "level 5: unknown"),
        (lambda run: filter_dataset(run, "10%", by="foo"), "by foo: unknown"),
        (lambda run: score_dataset("nowhere.hdf5", settings="fast"), "settings fast: unknown"),
        (lambda run: reweight_dataset(run, clip=0.5), "clip 0.5 must be above 1"),
    ],
)
def test_messages_name_python_arguments(pendulum_run, call, message):
    with pytest.raises(CurateError, match=message.replace("(", r"\(")) as raised:
        call(pendulum_run)
    assert "--" not in str(raised.value)
    assert "--" in "\n".join(raised.value.lines()), "and on the command line its options"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cut(50), ["as a share, 50 is more than all rows", 'give "50%", for 50 rows give "50"']),
        (lambda: Cut(1.5), ["1.5 is more than all rows", 'for 1.5 % of the rows give "1.5%"']),
        (lambda: Cut(20000), ["20000 is more than all rows", 'fix: for 20000 rows give "20000"']),
        (lambda: Cut(episodes=1.5), ["1.5 is more than all episodes", 'give "1.5%ep"']),
        (lambda: Cut("150%"), ["is more than all rows: give a share of at most 100%"]),
        (lambda: Cut("0.5"), ["as a share of the rows: 50%, of the episodes: 50%ep"]),
    ],
)
def test_an_amount_that_is_no_share_is_answered_with_what_it_may_mean(make, said):
    with pytest.raises(CurateError) as raised:
        make()
    for part in said:
        assert part in str(raised.value)


def test_an_unknown_order_is_answered_with_all_orders(pendulum_run):
    with pytest.raises(CurateError, match=", ".join(ORDERS)):
        filter_dataset(pendulum_run, "10%", by="foo")


def test_levels_are_written_as_on_the_command_line():
    assert Level("window:50") == Level("window", 50)
    assert Level("episode") == EPISODE


def test_settings_are_given_by_the_name_of_a_preset(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", {"quick": tiny_settings(updates=0)})
    write_d4rl(tmp_path / "d.hdf5", make_transitions())
    run = score_dataset(tmp_path / "d.hdf5", out=tmp_path / "run", settings="quick", device="cpu").run
    assert open_run(run).manifest["settings"] == tiny_settings(updates=0).to_json()


def test_what_is_no_settings_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CurateError, match="or the name of a preset are needed, not dict"):
        score_dataset({"observations": []}, out=tmp_path / "run", settings={"seed": 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fix", "in_python"),
    [
        (
            "continue it with --resume, or start over with --if-exists replace",
            'continue it with resume=True, or start over with if_exists="replace"',
        ),
        ("train one with --preset standard", 'train one with settings="standard"'),
        ("choose another --format, such as parquet", "choose another file_format, such as parquet"),
        ("give --level window:50, or --by score", 'give level="window:50", or by="score"'),
        ("vaco-curate filter", "vaco-curate filter (in Python: filter_dataset)"),
        (
            "vaco-curate score d.hdf5 --out x --resume",
            "vaco-curate score d.hdf5 --out x --resume (in Python: score_dataset with resume=True)",
        ),
        ("pip install --upgrade torch", "pip install --upgrade torch"),
    ],
)
def test_a_fix_reads_as_python(fix, in_python):
    error = CurateError("no", fix=fix)
    assert str(error) == f"no\n  fix: {in_python}"
    assert error.lines()[-1] == f"  fix: {fix}"


@pytest.mark.parametrize(
    ("line", "in_python"),
    [
        ("which --success done names", 'which ReadOptions(success="done") names'),
        (
            "name them: --column observation=NAME,action=NAME",
            'name them: ReadOptions(columns={"observation": "NAME", "action": "NAME"})',
        ),
        ("for all --column 'observation=obs_*'", 'for all ReadOptions(columns={"observation": "obs_*"})'),
        ("--column x=...: no column", 'ReadOptions(columns={"x": ...}): no column'),
        ("also --drop-columns a,b", 'also ReadOptions(drop_columns=["a", "b"])'),
        ("say where it is: --dataset PATH", 'say where it is: dataset="PATH"'),
        ("name it: --env Hopper-v5 (any id)", 'name it: environment="Hopper-v5" (any id)'),
        (
            "leave out --column, --success and --max-episode-steps",
            "leave out read_options.columns, read_options.success and read_options.max_episode_steps",
        ),
        ("for IQL, filter --top 10% or reweight", 'for IQL, filter_dataset(run, "10%") or reweight'),
        ("filter --top 80%ep", 'filter_dataset(run, "80%ep")'),
        ("reweight", "reweight_dataset(run)"),
    ],
)
def test_options_with_values_read_as_python(line, in_python):
    assert wording.in_python(line) == in_python


WITHOUT_LIMIT = "name the environment's step limit with {} if it has one"


def test_notes_name_python_arguments_and_options_on_the_command_line(tmp_path, vaco):
    source = write_d4rl(tmp_path / "d.hdf5", make_transitions(), timeouts=None)
    in_python = WITHOUT_LIMIT.format("read_options.max_episode_steps")
    with_options = WITHOUT_LIMIT.format("--max-episode-steps")
    result = score_dataset(source, out=tmp_path / "run", settings=tiny_settings(updates=0), device="cpu")
    again = score_dataset(
        source, out=tmp_path / "run", settings=tiny_settings(updates=0), device="cpu", if_exists="skip"
    )
    converted = convert_dataset(source, tmp_path / "out")
    told = [inspect_dataset(source).problems, read_dataset(source).notes]
    told += [result.notes, again.notes, converted.notes]
    for notes in told:
        (note,) = [note for note in notes if "step limit" in note]
        assert note.endswith(in_python)
        assert note.on_command_line.endswith(with_options)
        assert not any("--" in note for note in notes)
    for folder in ("run", "out"):
        stored = " ".join(read_manifest(tmp_path / folder)["notes"])
        assert with_options in stored
        assert in_python not in stored
    shown = vaco("inspect", source, "--json")
    assert with_options in " ".join(json.loads(shown.stdout)["problems"])
    assert with_options in vaco("convert", source, tmp_path / "again").stderr


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda note: pickle.loads(pickle.dumps(note)), wording.Note])
def test_a_copy_of_a_note_says_the_same(copied):
    note = wording.Note("vaco-curate score d.hdf5 --resume")
    assert copied(note) == note
    assert note == "vaco-curate score d.hdf5 --resume (in Python: score_dataset with resume=True)"
    assert copied(note).on_command_line == note.on_command_line


def test_the_words_that_messages_quote_in_python_are_all_there_are():
    assert wording.LITERALS["--if-exists"].split("|") == list(get_args(IfExists))
    assert set(wording.LITERALS["--format"].split("|")) == {*FILTER_FORMATS, *WEIGHT_FORMATS}
    assert wording.LITERALS["--engine"].split("|") == list(ENGINES)
    assert wording.LITERALS["--preset"].split("|") == list(PRESETS)
    assert wording.LITERALS["--by"].split("|") == list(ORDERS)
    assert {f"--{name}" for name in ("resume", "selection-only", "dry-run")} == set(wording.SWITCHES)
    assert set(wording.FUNCTIONS.values()) <= set(vaco_curate.__all__)
    assert set(wording.FUNCTIONS) == {*main.entries} - {"demo"}


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


def test_the_bar_of_a_phase_that_settles_says_so_and_is_full(monkeypatch):
    monkeypatch.setattr(progress, "SOON", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with training_tasks() as on_progress:
        on_progress(Progress("value", 0, 1000, 0, 0.0, {}))
        on_progress(Progress("value", 500, 1000, 500, 100.0, {}, settled=True))
    last = sys.stderr.getvalue().rpartition("\r")[2]
    assert "value phase, settled: 100%" in last
    assert "500/500" in last


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
