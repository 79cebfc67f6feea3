"""What scripts and schedulers rely on: exit codes, reruns, JSON, logs, variables."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate_cli.command_line import effective_command
from vaco_curate_cli.commands.score import score_command
from vaco_curate_cli.display import SCHEMA_VERSION
from vaco_curate_cli.main import COMMANDS, main

SCORE = ("score", "pendulum.hdf5", "--config", "tiny.json", "--device", "cpu")
FILTER = ("filter", "pendulum.vaco", "--top", "50%", "--out", "half", "--excluded", "rest")
COMMON = ("--if-exists", "skip", "--json")


@pytest.fixture
def tiny(scored):
    (scored / "tiny.json").write_text(CONFIG)
    return scored


def contents(folder):
    """Bytes and change times of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ((*SCORE, "--out", "again.vaco"), "again.vaco"),
        (("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "applied.vaco"), "applied.vaco"),
        (FILTER, "half"),
        (("reweight", "pendulum.vaco", "--clip", "10", "--out", "weighted"), "weighted"),
        (("convert", "pendulum.hdf5", "rows"), "rows"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_finished_command_given_again_with_skip_does_nothing(vaco, tiny, command, out):
    first = vaco(*command, *COMMON)
    assert first.code == 0, first.stderr
    assert first.json["skipped"] is False
    before = contents(tiny / out)
    again = vaco(*command, *COMMON)
    assert again.code == 0, again.stderr
    assert again.json == first.json | {"skipped": True}
    assert contents(tiny / out) == before
    assert vaco(*command).code == 1, "without it, the output is in the way"


@pytest.mark.parametrize(
    ("command", "other", "differs"),
    [
        (SCORE, ("--seed", "1"), "seed"),
        (SCORE, ("--max-episode-steps", "200"), "read options: max episode steps: none there, 200 asked for"),
        (FILTER, ("--level", "episode"), "level"),
        (FILTER, ("--format", "npz"), "format"),
        (("reweight", "pendulum.vaco", "--out", "weighted"), ("--temperature", "2"), "temperature"),
        (
            ("convert", "pendulum.hdf5", "rows"),
            ("--rows-per-shard", "500"),
            "rows per shard: 1000000 there, 500 asked for",
        ),
    ],
)
def test_skip_refuses_what_was_made_otherwise(vaco, tiny, command, other, differs):
    vaco(*command, "--if-exists", "replace")
    outcome = vaco(*command, *other, "--if-exists", "skip")
    assert outcome.code == 1
    assert "made with other values of" in outcome.stderr
    assert differs in outcome.stderr
    assert "--if-exists replace" in outcome.stderr


def test_skip_looks_at_the_data_and_at_what_it_made_of_them(vaco, tiny):
    assert vaco(*SCORE, "--if-exists", "replace").code == 0
    assert vaco(*FILTER).code == 0
    (shard,) = (tiny / "half" / "data").iterdir()
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert "changed since it was written" in vaco(*FILTER, "--if-exists", "skip").stderr
    write_d4rl(tiny / "pendulum.hdf5", make_transitions(episodes=8))
    assert "other values of: dataset" in vaco(*SCORE, "--if-exists", "skip").stderr
    assert vaco(*SCORE, "--seed", "1", "--if-exists", "replace").code == 0
    assert "other values of: run" in vaco(*FILTER, "--if-exists", "skip").stderr


ROWS_AND_NONE = [
    (("filter", "own.vaco", "--top", "50%", "--out", "half", "--excluded", "rest"), True),
    (("reweight", "own.vaco", "--out", "weighted"), True),
    (("filter", "own.vaco", "--top", "50%", "--selection-only", "--out", "choice"), False),
    (("reweight", "own.vaco", "--format", "weights", "--out", "weights"), False),
]


@pytest.mark.parametrize(("command", "holds_rows"), ROWS_AND_NONE)
def test_skip_refuses_where_the_dataset_has_changed_or_is_gone(vaco, tiny, command, holds_rows):
    assert vaco("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "own.vaco").code == 0
    assert vaco(*command).code == 0
    moved = (tiny / "pendulum.hdf5").rename(tiny / "moved.hdf5")
    gone = vaco(*command, "--if-exists", "skip")
    assert gone.code == (1 if holds_rows else 0), gone.stderr
    assert ("no longer at" in gone.stderr) == holds_rows
    assert vaco(*command, "--if-exists", "skip", "--dataset", moved).code == 0
    write_d4rl(tiny / "pendulum.hdf5", make_transitions(episodes=8))
    changed = vaco(*command, "--if-exists", "skip")
    assert changed.code == 1
    assert "the scores were made for a different dataset" in changed.stderr
    assert "--if-exists replace" in changed.stderr


def test_skip_says_which_of_two_outputs_is_lost(vaco, tiny):
    for lost, left in (("half", "rest"), ("rest", "half")):
        assert vaco(*FILTER, "--if-exists", "replace").code == 0
        shutil.rmtree(tiny / lost)
        outcome = vaco(*FILTER, "--if-exists", "skip")
        assert outcome.code == 1
        assert f"{left} is finished, but {lost}, which was written with it, is not there" in outcome.stderr
        assert "--if-exists replace" in outcome.stderr


def test_skip_and_resume_together_are_a_job_that_can_be_given_any_number_of_times(vaco, tiny):
    job = (*SCORE, "--out", "job.vaco", "--resume", "--if-exists", "skip")
    assert [vaco(*job).code for _ in range(2)] == [0, 0]


def test_two_identical_runs_leave_identical_folders_but_for_their_times(vaco, tiny):
    commands = {"one": (*SCORE, "--if-exists", "replace"), "two": (*FILTER, "--if-exists", "replace")}
    commands["three"] = ("convert", "pendulum.hdf5", "rows", "--format", "d4rl", "--if-exists", "replace")
    made = []
    for _ in range(2):
        for command in commands.values():
            assert vaco(*command).code == 0
        made.append({name: contents(tiny / name) for name in ("pendulum.vaco", "half", "rest", "rows")})
        time.sleep(1.1)  # times are written to the second
    for folder, files in made[0].items():
        assert "_times" in files
        others = made[1][folder]
        assert files.keys() == others.keys()
        assert [name for name in files if files[name][0] != others[name][0]] == ["_times"], folder


def test_strict_turns_warnings_into_an_exit_code_and_quiet_keeps_them(vaco, here):
    write_d4rl(here / "few.hdf5", make_transitions(episodes=3, length=40))
    (here / "tiny.json").write_text(CONFIG)
    outcome = vaco("score", "few.hdf5", "--config", "tiny.json", "--quiet", "--strict")
    assert outcome.code == 3
    assert "Warning: " in outcome.stderr
    assert (here / "few.vaco").is_dir(), "the result is there all the same"
    assert vaco("report", "--strict").code == 3
    assert vaco("inspect", "few.hdf5", "--strict").code == 0


@pytest.mark.parametrize(
    ("arguments", "kind", "code", "problem"),
    [
        (("filter", "nowhere", "--top", "50%"), "refused", 1, "nowhere: there is no such folder"),
        (("filter", "--top", "half"), "usage", 2, "'half' is neither a share"),
        (("filter", "--levl", "episode"), "usage", 2, "--levl"),
        (("fliter",), "usage", 2, "Did you mean 'filter'?"),
    ],
)
def test_errors_are_json_too_where_that_was_asked_for(vaco, here, arguments, kind, code, problem):
    outcome = vaco(*arguments, "--json")
    assert outcome.code == code
    error = outcome.json["error"]
    assert (outcome.json["schema_version"], outcome.json["exit_code"]) == (SCHEMA_VERSION, code)
    assert error["kind"] == kind
    assert problem in error["problem"]
    assert error.keys() == {"kind", "problem", "details", "fix"}
    assert "Error" in outcome.stderr, "people read it, too"
    assert vaco(*arguments).stdout == ""


def test_usage_errors_are_json_where_a_variable_asks_for_it_or_the_command_is_wrong(here):
    cases = [
        (["filter", "--top", "abc"], {"VACO_CURATE_FILTER_JSON": "1"}, "'abc' is neither a share"),
        (["filter", "--levl", "x"], {"VACO_CURATE_FILTER_JSON": "true"}, "--levl"),
        (["--json", "fliter"], {}, "--json"),
    ]
    for arguments, variables, problem in cases:
        result = CliRunner().invoke(main, arguments, env=variables)
        assert result.exit_code == 2
        error = json.loads(result.stdout)["error"]
        assert (error["kind"], problem in error["problem"]) == ("usage", True)
    off = CliRunner().invoke(main, ["filter", "--top", "abc"], env={"VACO_CURATE_FILTER_JSON": "0"})
    assert off.stdout == ""


def test_the_fix_of_a_wrong_value_is_a_key_of_its_own(vaco, here):
    error = vaco("filter", "--top", "abc", "--json").json["error"]
    assert error["fix"] == "write digits alone, and % for a share; of whole episodes: 80%ep or 64ep"
    assert "fix" not in error["problem"]


def test_a_full_stdout_is_one_message(start, tiny):
    for command in (("filter", "pendulum.vaco", "--top", "1%", "--dry-run"), ("verify", "pendulum.vaco")):
        for more in (("--json",), ()):
            with Path("/dev/full").open("w") as full:
                running = start(*command, *more, cwd=tiny, stdout=full)
            _, told = running.communicate(timeout=60)
            assert running.returncode == 1, told
            assert told.count("standard output: no space left to write") == 1
            assert "Traceback" not in told
            assert "Exception ignored" not in told


@pytest.mark.parametrize("more", [("--json",), ()])
def test_a_closed_pipe_ends_a_command_quietly(start, tiny, more):
    reads, writes = os.pipe()
    os.close(reads)
    running = start("filter", "pendulum.vaco", "--top", "1%", "--dry-run", *more, cwd=tiny, stdout=writes)
    os.close(writes)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "Traceback" not in told
    assert "Error" not in told


def test_what_is_typed_comes_before_a_variable_of_an_option_that_it_excludes(vaco, tiny, monkeypatch):
    monkeypatch.setenv("VACO_CURATE_FILTER_TOP", "25%")
    made = vaco("filter", "pendulum.vaco", "--threshold", "-100", "--dry-run")
    assert made.code == 0, made.stderr
    assert "value >= -100.0" in made.stdout
    assert vaco("filter", "pendulum.vaco", "--dry-run").stdout.count("top 25% of the rows") == 1


def test_a_variable_that_is_no_option_is_warned_of(vaco, tiny, monkeypatch):
    monkeypatch.setenv("VACO_CURATE_FILTER_TPO", "25%")
    made = vaco("filter", "pendulum.vaco", "--top", "50%", "--dry-run", "--strict")
    assert made.code == 3
    assert "VACO_CURATE_FILTER_TPO is no option of filter" in made.stderr


def test_what_verify_cannot_check_is_a_warning(vaco, tiny):
    assert vaco("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "own.vaco").code == 0
    assert vaco("verify", "own.vaco", "--strict").code == 0
    (tiny / "pendulum.hdf5").unlink()
    outcome = vaco("verify", "own.vaco", "--strict", "--quiet")
    assert outcome.code == 3
    assert "no longer here, not checked" in outcome.stderr


def test_a_failed_verification_is_one_document(vaco, tiny):
    assert vaco(*FILTER).code == 0
    (tiny / "half" / "_selection.pq").write_bytes(b"x")
    outcome = vaco("verify", "half", "--json")
    assert outcome.code == 1
    assert not all(check["good"] for check in outcome.json["checks"])


def test_a_log_file_has_all_messages_with_their_times(vaco, tiny):
    assert vaco(*FILTER, "--quiet", "--log-file", "jobs.log").code == 0
    assert vaco("filter", "nowhere", "--top", "50%", "--log-file", "jobs.log").code == 1
    assert vaco("filter", "--top", "half", "--log-file", "jobs.log").code == 2
    lines = (tiny / "jobs.log").read_text().splitlines()
    stamp = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ {os.getpid()} (INFO|WARNING|ERROR) "
    assert all(re.match(stamp, line) for line in lines)
    text = "\n".join(lines)
    began = f"began: vaco-curate {shlex.join(FILTER)} --quiet --log-file jobs.log (process {os.getpid()})"
    for part in (
        began,
        "written to half",
        "ERROR nowhere: there is no such folder",
        "'half' is neither a share",
    ):
        assert part in text
    assert re.findall(r"ended: exit code (\d) in [\d.]+ s", text) == ["0", "1", "2"]
    assert "ended" in lines[-1]


def test_every_option_can_be_a_variable(tiny):
    given = {"TOP": "10%", "DRY_RUN": "1", "JSON": "1", "MIN_EPISODE_LENGTH": "2"}
    variables = {f"VACO_CURATE_FILTER_{name}": value for name, value in given.items()}
    result = CliRunner().invoke(main, ["filter", "pendulum.vaco"], env=variables)
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert (facts["out"], facts["after"]["rows"]) == (None, 400)


def test_ctrl_c_while_the_program_is_loaded_prints_no_traceback():
    program = (
        "import os, signal, sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "from vaco_curate_cli.start import start\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "start()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_an_empty_variable_means_an_empty_option_where_that_says_something(tiny):
    arguments = ["filter", "pendulum.vaco", "--top", "10%", "--out", "plain"]
    result = CliRunner().invoke(main, arguments, env={"VACO_CURATE_FILTER_COLUMNS": ""})
    assert result.exit_code == 0, result.stderr
    assert json.loads((tiny / "plain" / "_manifest.json").read_text())["request"]["columns"] == []


def test_the_command_to_go_on_has_what_variables_gave(monkeypatch):
    variables = {"NO_CACHE": "1", "COLUMN": "reward=r action=a", "LOG_FILE": "a log", "QUIET": "0", "SEED": "3"}
    for name, value in variables.items():
        monkeypatch.setenv(f"VACO_CURATE_SCORE_{name}", value)
    made = []
    monkeypatch.setattr(score_command, "callback", lambda **_: made.append(effective_command("--resume")))
    assert CliRunner().invoke(main, ["score", "x.hdf5", "--seed", "4"]).exit_code == 0
    words = shlex.split(made[0])
    assert words[:5] == ["vaco-curate", "score", "x.hdf5", "--seed", "4"]
    more = ["--no-cache", "--column=reward=r", "--column=action=a", "--log-file=a log", "--resume"]
    assert sorted(words[5:]) == sorted(more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_is_kept_and_the_command_to_go_on_goes_on(tiny, start, number, vaco):
    long = json.loads(CONFIG)
    long["value"] |= {"updates": 200_000, "settled_at": None}
    (tiny / "long.json").write_text(json.dumps(long | {"log_every": 10, "checkpoint_every": 100_000}))
    arguments = ("score", "pendulum.hdf5", "--config", "long.json", "--out", "a folder/long.vaco")
    running = start(*arguments, "--device", "cpu", "--log-file", "log", cwd=tiny)
    for _ in range(600):
        if "value phase 20" in ((tiny / "log").read_text() if (tiny / "log").exists() else ""):
            break
        time.sleep(0.1)
    running.send_signal(number)
    _, told = running.communicate(timeout=60)
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], told
    (said,) = re.findall(r"is kept, ([\d,]+) of at most 200,000 updates of the value phase\n", told)
    (go_on,) = re.findall(r"to go on: (vaco-curate .*)", told)
    words = shlex.split(go_on)[1:]
    assert words == [*arguments, "--device", "cpu", "--log-file", "log", "--resume"]
    from vaco_curate.core.training.checkpoint import read_facts

    kept = read_facts(tiny / "a folder" / "long.vaco.partial" / "checkpoint.safetensors")["metrics"]
    assert kept[-1]["update"] - int(said.replace(",", "")) in (0, 10), "10 if between keeping and telling"
    assert kept[-1]["update"] % 10 == 0
    assert kept[-1]["update"] >= 10, "far from the next regular checkpoint"


def test_help_and_completion_import_no_torch_and_the_list_of_commands_next_to_nothing():
    program = (
        "import sys, runpy\n"
        "from vaco_curate_cli.main import main\n"
        "try: main(standalone_mode=False)\n"
        "except SystemExit: pass\n"
        "print('IMPORTED', *(name for name in HEAVY if name in sys.modules), file=sys.stderr)\n"
    )
    heavy = ("torch", "polars", "gymnasium", "minari", "h5py", "jinja2", "altair", "ray")
    most = (*heavy, "pyarrow", "numpy")
    cases = [([name, "--help"], heavy) for name in COMMANDS] + [(["--help"], most)]
    for arguments, forbidden in cases:
        code = f"HEAVY = {forbidden!r}\n{program}"
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stderr.rstrip().endswith("IMPORTED"), (arguments, done.stderr)


def completed(typed: str, folder) -> list[str]:
    variables = {"_VACO_CURATE_COMPLETE": "bash_complete", "COMP_WORDS": typed}
    variables["COMP_CWORD"] = str(len(typed.split(" ")) - 1)
    command = [sys.executable, "-c", "from vaco_curate_cli.main import main; main(prog_name='vaco-curate')"]
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=True, cwd=folder
    )
    return done.stdout.split()


def test_commands_options_runs_and_files_are_completed(scored):
    assert completed("vaco-curate fi", scored) == ["plain,filter"]
    assert "plain,--if-exists" in completed("vaco-curate filter --if", scored)
    assert completed("vaco-curate filter --if-exists r", scored) == ["plain,replace"]
    assert completed("vaco-curate filter pen", scored) == ["plain,pendulum.vaco"]
    assert completed("vaco-curate score pen", scored) == ["file,pen"]
    assert completed("vaco-curate verify pen", scored) == ["dir,pen"]
    levels = ["plain,transition", "plain,episode", "plain,window:"]
    assert completed("vaco-curate filter --level ", scored) == levels
    assert completed("vaco-curate filter --level ep", scored) == ["plain,episode"]


def test_eval_offers_curated_folders_too(vaco, scored):
    assert vaco("filter", "--top", "10%").code == 0
    both = {"plain,pendulum.vaco", "plain,pendulum.top10pct"}
    assert set(completed("vaco-curate eval ", scored)) == both
    assert completed("vaco-curate report ", scored) == ["plain,pendulum.vaco"]


def test_a_small_number_of_rows_is_asked_about(vaco, scored):
    hinted = vaco("filter", "--top", "50", "--dry-run", "--json")
    assert hinted.json["notes"][0] == "50 keeps 50 rows; for 50 % of them give 50%"
    assert hinted.json["notes"][0] in hinted.stderr
    assert "keeps" not in vaco("filter", "--top", "2000", "--dry-run").stderr


@pytest.mark.parametrize(
    ("amount", "note"),
    [
        ("15ep", "15ep keeps 15 episodes; for 15 % of them give 15%ep"),
        ("1ep", None),
        ("200ep", "200ep drops none of 20 episodes"),
        ("80ep", "80ep drops none of 20 episodes; for 80 % of them give 80%ep"),
        ("20000", "20000 drops none of 4,000 rows"),
        ("100%", None),
    ],
)
def test_a_number_that_may_not_be_meant_as_one_is_noted(vaco, scored, amount, note):
    notes = vaco("filter", "--top", amount, "--dry-run", "--json").json["notes"]
    told = [text for text in notes if " keeps " in text or " drops none" in text]
    assert told == ([] if note is None else [note])


def test_a_fraction_is_answered_with_its_percentage(vaco, scored):
    outcome = vaco("filter", "--top", "0.5")
    assert outcome.code == 2
    assert "fix: as a share of the rows: 50%, of the episodes: 50%ep" in outcome.stderr


def test_a_budget_alone_is_not_spoken_of_as_a_top(vaco, scored):
    outcome = vaco("filter", "--budget", "50", "--dry-run")
    assert "rule: top 50 rows by score, down to" in outcome.stdout
    assert "for 50 %" not in outcome.stderr
    assert vaco("filter", "--budget", "50", "--top", "10%", "--dry-run", "--json").json["after"]["rows"] == 50
    assert vaco("filter", "--budget", "0").stderr.startswith("Error: --budget 0 keeps nothing")


def test_rows_that_hold_no_episode_are_answered_with_episodes(vaco, scored):
    refused = vaco("filter", "--top", "10", "--level", "episode")
    assert refused.code == 1
    assert "for 10 whole episodes give 10ep" in refused.stderr
    assert vaco("filter", "--top", "10ep", "--dry-run", "--json").json["after"]["episodes"] == 10
    assert "ep," not in vaco("filter", "--top", "100", "--level", "episode").stderr, "there are 20"


def test_eval_names_every_comparison():
    from vaco_curate.evaluation import COMPARISONS
    from vaco_curate_cli.commands.evaluate import AGAINST

    assert tuple(COMPARISONS) == AGAINST


def test_convert_says_the_librarys_default():
    from vaco_curate.stages import convert
    from vaco_curate_cli.commands.convert import ROWS_PER_SHARD

    assert convert.ROWS_PER_SHARD == ROWS_PER_SHARD
