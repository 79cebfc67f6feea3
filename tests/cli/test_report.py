"""``report`` with a dataset that is gone, by group, and beside another run."""

from __future__ import annotations

import re
import shutil

import numpy as np
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate import report_figures
from vaco_curate.store.manifest import read_manifest, write_manifest


def page(folder):
    return (folder / "report.html").read_text()


def lose_the_dataset(run):
    manifest = read_manifest(run)
    manifest["dataset"]["address"] = manifest["dataset"]["recordings"][0]["path"] = "/gone/pendulum.hdf5"
    write_manifest(run, manifest)


def test_a_report_without_its_dataset_says_what_it_lacks(vaco, scored):
    run = scored / "pendulum.vaco"
    lose_the_dataset(run)
    assert vaco("report").code == 0
    assert "the dataset is no longer at /gone/pendulum.hdf5. To say where it is: report --dataset PATH" in page(
        run
    )
    assert 'data-chart="projection"' not in page(run)
    assert vaco("report", "--dataset", "pendulum.hdf5").code == 0
    assert 'data-chart="projection"' in page(run)
    refused = vaco("report", "--per", "operator")
    assert refused.code == 1
    assert "--dataset" in refused.stderr
    assert vaco("report", "--dataset", "nowhere.hdf5").code == 1


def scored_with(here, vaco, name="grouped", **extra):
    write_d4rl(here / f"{name}.hdf5", make_transitions(episodes=12), **extra)
    (here / "tiny.json").write_text(CONFIG)
    assert vaco("score", f"{name}.hdf5", "--config", "tiny.json").code == 0
    return here / f"{name}.vaco"


def test_groups_are_those_of_a_column(vaco, here):
    within = np.arange(240) % 2
    operator = np.repeat(np.arange(3), 80)
    run = scored_with(here, vaco, **{"infos/operator": operator, "infos/mode": within})
    assert vaco("report", "--per", "infos/operator").code == 0
    assert "By infos/operator" in page(run)
    assert re.search(r'class="name">2</th>.*?<td>4</td><td>80</td>', page(run), re.S)
    assert vaco("report", "--per", "infos/mode").code == 0
    assert re.search(r'class="name">1</th>.*?<td>12</td><td>120</td>', page(run), re.S)
    assert "of the scores of the rows" in " ".join(page(run).split())
    refused = vaco("report", "--per", "nothing")
    assert refused.code == 1
    assert "infos/operator" in refused.stderr


def test_groups_are_source_files_where_there_are_several(vaco, here):
    (here / "logs").mkdir()
    for name, seed in (("first", 0), ("second", 1)):
        write_d4rl(here / "logs" / f"{name}.hdf5", make_transitions(episodes=4, seed=seed))
    (here / "tiny.json").write_text(CONFIG)
    assert vaco("score", "logs", "--config", "tiny.json").code == 0
    assert vaco("report").code == 0
    assert "By source file" in page(here / "logs.vaco")
    assert re.search(r'class="name">second</th>.*?<td>4</td><td>80</td>', page(here / "logs.vaco"), re.S)


def test_two_runs_on_one_dataset_are_compared_and_others_refused(vaco, scored):
    (scored / "tiny.json").write_text(CONFIG)
    outcome = vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--seed", "1", "--out", "again.vaco")
    assert outcome.code == 0
    assert vaco("report", "pendulum.vaco", "--compare", "again.vaco").code == 0
    assert "Compared with again.vaco" in page(scored / "pendulum.vaco")
    assert "best 25 % in common" in page(scored / "pendulum.vaco")
    read = ["--step-cost", "0.5", "--max-episode-steps", "9999"]
    outcome = vaco("score", "pendulum.hdf5", "--config", "tiny.json", *read, "--out", "cost.vaco")
    assert outcome.code == 0
    assert vaco("report", "pendulum.vaco", "--compare", "cost.vaco").code == 0, "other rewards of the same rows"
    assert vaco("report", "cost.vaco").code == 0
    again = re.search("vaco-curate (score .* --out cost-again.vaco)", page(scored / "cost.vaco"))[1]
    assert " ".join(read) in again
    assert vaco(*again.split(), "--config", "tiny.json").code == 0, (
        "the command reads the dataset as the run did"
    )
    scored_with(scored, vaco, "other")
    refused = vaco("report", "pendulum.vaco", "--compare", "other.vaco")
    assert refused.code == 1
    assert "made for a different dataset" in refused.stderr
    assert "fix: " in refused.stderr


def test_an_applied_scorer_is_named_in_words(vaco, scored):
    assert vaco("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "applied.vaco").code == 0
    shutil.rmtree(scored / "pendulum.vaco")
    assert vaco("report", "applied.vaco").code == 0
    header = page(scored / "applied.vaco").partition("</header>")[0]
    assert "applied, from the run pendulum.vaco" in header
    assert "it was trained on this dataset" in header
    assert "sha256" not in header


def test_figures_are_charts_for_a_notebook(scored):
    charts = report_figures(scored / "pendulum.vaco")
    assert {"keep", "histogram", "returns", "course", "projection", "weights", "values"} <= set(charts)
    spec = charts["returns"].to_dict()
    (rows,) = spec["datasets"].values()
    assert len(rows) == 20
    assert "spread" not in charts, "there is one member"
