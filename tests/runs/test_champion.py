"""Which checkpoint is the champion, of one run and of several, and what is written."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.champion import Champion, choose_champion
from tibert_keras.runs.checkpoints import VARIABLES_FILE


def copy_run(run: Path, copy: Path, losses: dict[int, tuple[float, float | None]]) -> Path:
    """Copy a run, with other losses and validation losses by step."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "champion")
    (copy / "champion.json").unlink()
    rows = [f"{step},{loss},{'' if val_loss is None else val_loss}" for step, (loss, val_loss) in losses.items()]
    (copy / "history.csv").write_text("\n".join(["step,loss,val_loss", *rows, ""]))
    return copy


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    losses = {5: (3.0, 1.0), 10: (1.0, 3.0), 12: (0.1, 0.1), 15: (2.0, 0.5), 20: (1.0, 2.0), 22: (4.0, None)}
    return copy_run(finished_run, tmp_path / "run", losses)


class TestChooseChampion:
    # 12 was the best of all once, but its checkpoint is gone; 10 is the earlier of two.
    @pytest.mark.any_backend
    @pytest.mark.parametrize("criterion, step, value, candidates", [("loss", 10, 1.0, 5), ("val_loss", 15, 0.5, 4)])
    def test_lowest(self, run, sample_records, criterion, step, value, candidates):
        train, validation = (f"{sample_records}/{name}/*.tf_record" for name in ("train", "held_out"))
        data = {
            "init_checkpoint": None,
            "continue_from": None,
            "input_file": train,
            "num_examples": Records.find(train).num_examples,
            "validation_file": validation,
        }
        expected = Champion(
            run_dir=str(run), step=step, criterion=criterion, value=value, candidates=candidates,
            preset=f"{run}/champion", data=data,
        )  # fmt: skip
        assert choose_champion([run], criterion=criterion) == expected
        assert json.loads((run / "champion.json").read_text()) == vars(expected)

    def test_the_preset_is_that_checkpoint(self, run):
        model = TibertMaskedLM.from_preset(choose_champion([run], criterion="loss").preset)
        with np.load(run / "checkpoints/10" / VARIABLES_FILE) as file:
            arrays = list(file.values())
        for weight in model.get_weights():
            assert any(np.array_equal(weight, array) for array in arrays)
        assert not any("optimizer" in path.read_bytes().decode("latin-1") for path in (run / "champion").glob("*.h5"))
        assert model.preprocessor.tokenizer.vocabulary_size() == model.backbone.vocabulary_size
        # As it is served: text in, pieces out.
        x, _, _ = model.preprocessor(["བཅོམ་ལྡན་འདས"])
        model.preprocessor = None
        assert np.isfinite(keras.ops.convert_to_numpy(model.predict(x, verbose=0))).all()

    @pytest.mark.any_backend
    def test_of_several_runs(self, run, finished_run, tmp_path):
        other = copy_run(finished_run, tmp_path / "other", {5: (0.5, None), 10: (9.0, 9.0)})
        assert choose_champion([run, other], criterion="loss").run_dir == str(other)
        assert (other / "champion").is_dir() and not (run / "champion").exists()
        champion = choose_champion([run, other])
        assert (champion.criterion, champion.value) == ("val_loss", 0.5)
        assert (champion.run_dir, champion.step, champion.candidates) == (str(run), 15, 5)

    @pytest.mark.any_backend
    def test_an_older_champion_is_replaced(self, run):
        choose_champion([run], criterion="val_loss")
        (run / "champion/leftover").write_text("")
        choose_champion([run], criterion="loss")
        assert not (run / "champion/leftover").exists()
        assert json.loads((run / "champion.json").read_text())["step"] == 10

    @pytest.mark.any_backend
    def test_a_damaged_checkpoint(self, run):
        (run / "checkpoints/10" / VARIABLES_FILE).write_bytes(b"")
        with pytest.raises(InputError, match="checkpoint cannot be loaded"):
            choose_champion([run], criterion="loss")
        assert not (run / "champion").exists()

    def test_no_checkpoint(self, run, tmp_path):
        shutil.rmtree(run / "checkpoints")
        with pytest.raises(InputError, match=r"No checkpoint with a loss is there. Received: run_dir=\['.*', '.*'\]"):
            choose_champion([run, tmp_path / "none"])
        assert not (run / "champion").exists() and not (tmp_path / "none").exists()

    def test_no_validation(self, finished_run, tmp_path):
        run = copy_run(finished_run, tmp_path / "run", {5: (0.5, None)})
        with pytest.raises(InputError, match="No checkpoint with a val_loss is there"):
            choose_champion([run], criterion="val_loss")
