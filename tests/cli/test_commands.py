from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import CONFIG, make_transitions, write_d4rl

import vaco_curate
from vaco_curate_cli.main import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(vaco, command):
    outcome = vaco(command, "--help")
    assert outcome.code == 0
    assert f"vaco-curate {command}" in outcome.stdout
    assert "Example" in outcome.stdout
    assert "--json" in outcome.stdout
    assert "--quiet" in outcome.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "pendulum.hdf5"),
        ("filter", "pendulum.vaco", "--top", "50%"),
        ("reweight", "pendulum.vaco"),
        ("convert", "pendulum.hdf5", "converted", "--format", "d4rl"),
        ("verify", "pendulum.vaco"),
    ],
    ids=lambda command: command[0],
)
def test_commands_that_compute_no_network_need_no_torch(scored, command):
    without = "import sys; sys.modules['torch'] = None; from vaco_curate_cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", without, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_is_a_command_and_knows_its_version():
    done = subprocess.run([sys.executable, "-m", "vaco_curate", "--version"], capture_output=True, text=True)
    assert done.stdout.strip().endswith(f"version {vaco_curate.__version__}"), done.stderr


def test_the_group_lists_the_exit_codes(vaco):
    assert "130 interrupted" in vaco("--help").stdout


def test_inspect_describes_the_dataset(vaco, scored):
    outcome = vaco("inspect", "pendulum.hdf5")
    assert outcome.code == 0
    for text in ("d4rl", "Pendulum-v1", "4,000", "20 rows", "float32"):
        assert text in outcome.stdout
    facts = vaco("inspect", "pendulum.hdf5", "--json").json
    assert (facts["rows"], facts["episodes"], facts["rows_without_target"]) == (4000, 20, 20)


def test_inspect_names_problems(vaco, here):
    data = make_transitions(columns={"truncated": np.zeros(120, bool), "reward": np.zeros(120, np.float32)})
    write_d4rl(here / "d.hdf5", data, actions=np.zeros((120, 2), np.float32))
    text = vaco("inspect", "d.hdf5").stderr
    assert "1 episode(s) end without a flag" in text
    assert "same return" in text


def test_eval_compares_the_curated_policy_and_records_it(vaco, scored):
    vaco("filter", "--top", "25%", "--level", "episode", "--out", "kept")
    for target in ("pendulum.vaco", "kept"):
        outcome = vaco(
            "eval", target, "--against", "uniform,random,return,advantage",
            "--updates", 20, "--seeds", 2, "--episodes", 2, "--json",
        )  # fmt: skip
        assert outcome.code == 0, outcome.stderr
        policies = outcome.json["policies"]
        assert [policy["name"] for policy in policies] == [
            "curated",
            "uniform",
            "random",
            "return",
            "advantage",
        ]
        assert np.shape(policies[0]["returns"]) == (2, 2)
        assert policies[0]["interval"] is None, "four episodes are too few for one"
        assert (scored / target / "evaluated_policy" / "policy.safetensors").is_file()
    assert outcome.json["policies"][0]["rows"] == 1000
    assert len(json.loads((scored / "pendulum.vaco" / "evaluations.json").read_text())) == 2
    vaco("report")
    assert "What a cloned policy earns" in (scored / "pendulum.vaco" / "report.html").read_text()


def test_report_is_one_file_that_needs_no_network(vaco, scored):
    outcome = vaco("report", "--json")
    assert outcome.code == 0, outcome.stderr
    page = (scored / "pendulum.vaco" / "report.html").read_text()
    assert not re.search(r'<(script|link|img|iframe)[^>]*(src|href)="http', page)
    for text in ("Every episode", "Scores of all rows", "top 10 % of the episodes", "Spearman", "Lower level"):
        assert text in page
    assert outcome.json["correlations"][0]["signal"] == "score"


def test_json_is_all_that_stands_on_stdout_and_quiet_silences_the_rest(vaco, scored):
    loud = vaco("filter", "--top", "50%", "--dry-run", "--json")
    json.loads(loud.stdout)
    assert "using the newest run" in loud.stderr
    quiet = vaco("filter", "--top", "50%", "--dry-run", "--quiet")
    assert quiet.stdout == ""
    assert all(line.startswith("Warning: ") for line in quiet.stderr.splitlines()), "warnings stay"


def test_the_demo_runs_every_command_and_leaves_a_report(vaco, here, monkeypatch):
    from vaco_curate_cli.commands import demo

    short = {"4000": "20", "20": "2"}
    steps = [
        (command, name, tuple(short.get(a, a) for a in arguments)) for command, name, arguments in demo.STEPS
    ]
    monkeypatch.setattr(demo, "STEPS", steps)
    monkeypatch.setattr(demo, "SHORT", json.loads(CONFIG))
    outcome = vaco("demo", "--json")
    assert outcome.code == 0, outcome.stderr
    assert (here / outcome.json["report"]).is_file()
    assert len(json.loads((here / "demo/pendulum-mixed.vaco/evaluations.json").read_text())) == 2
    assert vaco("demo").code == 1, "a second run needs --if-exists"
    assert vaco("demo", "--if-exists", "replace").code == 0


def test_a_run_and_its_curated_folder_can_move_together(vaco, scored):
    vaco("filter", "--top", "50%", "--out", "kept")
    (scored / "moved").mkdir()
    for name in ("kept", "pendulum.vaco", "pendulum.hdf5"):
        shutil.move(scored / name, scored / "moved" / name)
    arguments = ("--against", "", "--updates", 5, "--seeds", 1, "--episodes", 1)
    outcome = vaco("eval", "moved/kept", "--dataset", "moved/pendulum.hdf5", *arguments)
    assert outcome.code == 0, outcome.stderr


def test_an_interrupted_demo_exits_with_130_and_can_be_started_again(vaco, here, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vaco_curate.demo.record_pendulum", interrupted)
        assert vaco("demo").code == 130
    with monkeypatch.context() as patch:
        patch.setattr("vaco_curate.stages.train.score_dataset", interrupted)
        assert vaco("demo", "--if-exists", "replace").code == 130


def test_a_report_of_few_long_episodes_proposes_no_filter(vaco, here):
    write_d4rl(here / "few.hdf5", make_transitions(episodes=3, length=40))
    (here / "tiny.json").write_text(CONFIG)
    assert vaco("score", "few.hdf5", "--config", "tiny.json").code == 0
    outcome = vaco("report")
    assert outcome.code == 0, outcome.stderr
    assert "only 3 episodes" in outcome.stderr
    page = (here / "few.vaco" / "report.html").read_text()
    assert re.search(r"top 10 % of the episodes</th>\s*<td>[^<]+</td><td>40</td><td>1</td>", page)
    assert "a warning above speaks against following these scores" in page
    assert '<code id="step-1">vaco-curate filter' not in page


def test_names_with_spaces_and_brackets_work_throughout(vaco, tmp_path, monkeypatch, pendulum):
    folder = tmp_path / "we [b] x"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(pendulum, folder / "da[t]a 1.hdf5")
    (folder / "tiny.json").write_text(CONFIG)
    commands = [["score", "da[t]a 1.hdf5", "--config", "tiny.json"], ["filter", "--top", "50%"], ["report"]]
    for command in [*commands, ["reweight"], ["inspect", "da[t]a 1.hdf5"]]:
        outcome = vaco(*command)
        assert outcome.code == 0, outcome.stderr
    assert "da[t]a 1.hdf5" in outcome.stdout


def test_a_run_may_lie_behind_a_link(vaco, scored):
    (scored / "disk").mkdir()
    (scored / "link.vaco").symlink_to(scored / "disk")
    (scored / "tiny.json").write_text(CONFIG)
    for force in ([], ["--if-exists", "replace"]):
        outcome = vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--out", "link.vaco", *force)
        assert outcome.code == 0, outcome.stderr
    assert (scored / "disk" / "scores/pendulum.parquet").is_file()
    assert (scored / "link.vaco").is_symlink()
