"""Runs side by side: what is told of each from its files, the table, the picture and the verb."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.image import imread

from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.finetuning.scores import read_scores
from tibert_keras.runs.checkpoints import STATE_FILE, Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.runs.summary import RunSummary, plot_runs, summarize_runs, summary_table

HISTORY = """step,loss,val_loss,seconds,examples_per_second
10,9.0,9.5,100,10
20,5.5,6.0,100,30
30,5.0,5.75,100,20
40,6.0,,100,40
"""


def make_run(folder: Path, *, steps=(), history: str | None = None, age: float = 0.0, num_train_steps=1000) -> Path:
    """Make the folder of a run that was last written to `age` seconds ago."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"num_train_steps": num_train_steps}))
    for step in steps:
        (folder / f"checkpoints/{step}").mkdir(parents=True)
        (folder / f"checkpoints/{step}" / STATE_FILE).write_text("{}")
    if history:
        (folder / "history.csv").write_text(history)
    for path in folder.iterdir():
        os.utime(path, (time.time() - age,) * 2)
    return folder


def status(run: Path) -> str:
    (summary,) = summarize_runs([run])
    return summary.status


class TestSummarizeRuns:
    def test_a_finished_run(self, finished_run):
        (run,) = summarize_runs([finished_run])
        rows = History(finished_run).rows
        best = History(finished_run).best("loss")
        assert (run.run_dir, run.status, run.step, run.num_train_steps) == (str(finished_run), "finished", 22, 22)
        assert (run.loss, run.val_loss) == (rows[-1]["loss"], rows[-1]["val_loss"])
        assert (run.best_loss, run.best_step) == (best["loss"], best["step"])
        assert run.champion_step == best["step"]
        assert run.examples_per_second == np.median([row["examples_per_second"] for row in rows[-5:]])

    def test_the_files_are_left_alone(self, finished_run):
        before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
        summarize_runs([finished_run])
        assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before

    def test_a_run_under_way(self, tmp_path):
        run = make_run(tmp_path / "run", steps=[30, 40], history=HISTORY)
        assert summarize_runs([f"{run}/"]) == [
            RunSummary(
                run_dir=str(run), status="running", step=40, num_train_steps=1000, loss=6.0, best_loss=5.0,
                best_step=30, val_loss=5.75, best_f1=None, examples_per_second=25.0, champion_step=None,
            )
        ]  # fmt: skip

    def test_a_run_not_begun(self, tmp_path):
        (run,) = summarize_runs([make_run(tmp_path / "run")])
        assert (run.status, run.step) == ("not begun", 0)
        assert {run.loss, run.best_loss, run.best_step, run.val_loss, run.examples_per_second} == {None}

    # An interval takes 100 seconds.
    @pytest.mark.parametrize("age, expected", [(5, "running"), (190, "running"), (500, "stopped"), (9e6, "stopped")])
    def test_running_or_stopped(self, tmp_path, age, expected):
        assert status(make_run(tmp_path / "run", steps=[40], history=HISTORY, age=age)) == expected

    @pytest.mark.parametrize("name", ["config.yaml", "history.csv", "checkpoints"])
    def test_signs_of_life(self, tmp_path, name):
        run = make_run(tmp_path / "run", steps=[40], history=HISTORY, age=9e6)
        os.utime(run / name)
        assert status(run) == "running"

    def test_finished_whatever_its_age(self, tmp_path):
        assert status(make_run(tmp_path / "run", steps=[40], num_train_steps=40, age=9e6)) == "finished"

    def test_an_unfinished_checkpoint_does_not_count(self, tmp_path):
        run = make_run(tmp_path / "run", steps=[30], history=HISTORY, num_train_steps=40)
        (run / "checkpoints/40").mkdir()
        assert Checkpoints(run).steps == [30]
        assert summarize_runs([run])[0].step == 30


SEED_HISTORY = """step,epoch,loss,joint_f1,macro_f1,seconds
10,1,2.0,0.5,0.1,100
20,2,1.0,0.75,0.2,200
30,3,1.5,0.625,0.3,300
"""


class TestFineTuning:
    @pytest.fixture
    def run(self, tmp_path):
        """Two seeds of three, one that has ended and one that has not."""
        (tmp_path / "tagger").mkdir()
        options = {"num_seeds": 3, "num_epochs": 4, "min_tag_count": 100}
        (tmp_path / "tagger/config.yaml").write_text(yaml.safe_dump(options))
        for index in range(2):
            (tmp_path / f"tagger/seed_{index}").mkdir()
            (tmp_path / f"tagger/seed_{index}/history.csv").write_text(SEED_HISTORY)
        (tmp_path / "tagger/seed_0/scores.json").write_text("{}")
        return tmp_path / "tagger"

    def test_a_seed_is_a_run(self, run):
        lines = summary_table(summarize_runs([run])).splitlines()
        assert lines == [
            "run     status      step    loss  best loss  at step  val_loss  best F1  examples/s  champion",
            "seed_0  finished   30/40  1.5000     1.0000       20         -   0.7500           -        20",
            "seed_1  running    30/40  1.5000     1.0000       20         -   0.7500           -         -",
            "seed_2  not begun      -       -          -        -         -        -           -         -",
        ]

    # An epoch takes 100 seconds.
    @pytest.mark.parametrize("age, expected", [(190, "running"), (300, "stopped")])
    def test_running_or_stopped(self, run, age, expected):
        os.utime(run / "seed_1/history.csv", (time.time() - age,) * 2)
        assert [summary.status for summary in summarize_runs([run])] == ["finished", expected, "not begun"]

    def test_a_classifier_of_texts(self, run):
        (run / "seed_0/history.csv").write_text(SEED_HISTORY.replace("joint_f1", "accuracy"))
        first, *_ = summarize_runs([run])
        assert (first.best_f1, first.champion_step) == (0.3, 30)

    def test_picture(self, run, tmp_path):
        plot_runs(summarize_runs([run]), tmp_path / "picture.png")
        assert imread(tmp_path / "picture.png").shape[:2] == (600, 1200)

    def test_what_a_fine_tuning_writes(self, tagger_run, capsys):
        assert main(["runs", str(tagger_run)]) == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
        for index, (row, seed) in enumerate(zip(rows, read_scores(tagger_run).seeds, strict=True)):
            history = History(tagger_run / f"seed_{index}").rows
            kept = next(entry for entry in history if entry["epoch"] == seed["epoch"])
            assert row[:3] == [f"seed_{index}", "finished", f"{history[-1]['step']:,}/{history[-1]['step']:,}"]
            assert row[7] == f"{seed['validation']['joint_f1']:.4f}" and row[-1] == f"{kept['step']:,}"


class TestBadInput:
    def refuse(self, run, message):
        with pytest.raises(InputError, match=message) as error:
            summarize_runs([run])
        assert f"Received: '{run}" in str(error.value) and "\n" not in str(error.value)

    @pytest.mark.parametrize("name", ["missing", "."])
    def test_no_run(self, tmp_path, name):
        self.refuse(tmp_path / name, r"holds no run.*Give an output_dir of")

    @pytest.mark.parametrize("content", ["", "num_train_steps: many", "other: 1", "num_seeds: 2", "- 1", "a: [", "1"])
    def test_no_configuration(self, tmp_path, content):
        run = make_run(tmp_path / "run")
        (run / "config.yaml").write_text(content)
        self.refuse(run, "Not the configuration of a run")

    @pytest.mark.parametrize("content", ["step,loss\n5,low\n", "loss\n1.0\n", "step,loss\n5,1.0,3\n"])
    def test_no_history(self, tmp_path, content):
        self.refuse(make_run(tmp_path / "run", history=content), "Not the history of a run")

    def test_no_champion(self, tmp_path):
        run = make_run(tmp_path / "run")
        (run / "champion.json").write_text("[]")
        self.refuse(run, "Not the champion of a run")


class TestTable:
    def test_lines(self, tmp_path):
        begun = make_run(tmp_path / "a run", steps=[40], history=HISTORY, age=9e6, num_train_steps=1_000_000)
        (begun / "champion.json").write_text('{"step": 30}')
        lines = summary_table(summarize_runs([begun, make_run(tmp_path / "new")])).splitlines()
        assert lines == [
            "run    status             step    loss  best loss  at step  val_loss  best F1  examples/s  champion",
            "a run  stopped    40/1,000,000  6.0000     5.0000       30    5.7500        -        25.0        30",
            "new    not begun       0/1,000       -          -        -         -        -           -         -",
        ]

    def test_runs_of_one_name(self, tmp_path):
        runs = [make_run(tmp_path / name / "run") for name in "ab"]
        lines = summary_table(summarize_runs(runs)).splitlines()
        assert [line.split()[0] for line in lines[1:]] == [str(run) for run in runs]


class TestPlotRuns:
    def test_picture(self, finished_run, tmp_path):
        run = make_run(tmp_path / "run", steps=[40], history=HISTORY)
        path = tmp_path / "new/picture.png"
        plot_runs(summarize_runs([finished_run, run, make_run(tmp_path / "empty")]), path)
        pixels = imread(path)
        assert pixels.shape[:2] == (600, 1200)
        # Two runs in a colour each, and none for the third.
        for colour, there in (("1f77b4", True), ("ff7f0e", True), ("2ca02c", False)):
            red_green_blue = np.array(list(bytes.fromhex(colour))) / 255
            assert np.any(np.all(np.abs(pixels[..., :3] - red_green_blue) < 0.02, axis=2)) == there

    @pytest.mark.parametrize("name", ["history.csv", "picture.jpg", "folder.png"])
    def test_what_must_not_be_replaced_by_a_picture(self, tmp_path, name):
        (tmp_path / "folder.png").mkdir()
        run = make_run(tmp_path / "run", history=HISTORY)
        with pytest.raises(InputError, match=r"Received: .*\. Give"):
            plot_runs(summarize_runs([run]), tmp_path / name)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "run"]

    def test_nothing_to_draw(self, tmp_path):
        with pytest.raises(InputError, match=r"no loss to draw yet. Received: run_dir=\['/.*run'\]\. Wait"):
            plot_runs(summarize_runs([make_run(tmp_path / "run")]), tmp_path / "picture.png")
        assert not (tmp_path / "picture.png").exists()


class TestCommand:
    def test_table_and_picture(self, finished_run, tmp_path, capsys):
        picture = tmp_path / "picture.png"
        assert main(["runs", str(finished_run), f"--plot={picture}"]) == 0
        assert capsys.readouterr().out == f"{summary_table(summarize_runs([finished_run]))}\n"
        assert imread(picture).ndim == 3

    @pytest.mark.parametrize("arguments", [[], ["{}/none"], ["{}", "--plot={}/curves.pdf"]])
    def test_bad_input(self, tmp_path, capsys, arguments):
        run = make_run(tmp_path / "run", history=HISTORY)
        assert main(["runs", *(argument.format(run) for argument in arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("tibert runs: ") and err.count("\n") == 1 and "Received: " in err
