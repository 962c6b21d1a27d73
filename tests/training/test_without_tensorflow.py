"""From records and strings to champions on JAX, in a process in which TensorFlow cannot be imported."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.support.made_up_tags import write_horizontal, write_texts
from tibert_keras import TibertMaskedLM
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.history import History
from tibert_keras.training.evaluate import evaluate

RUN = """
import json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_text"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from tibert_keras.cli.main import main
for words in json.loads(sys.argv[1]):
    assert main(words) == 0, words
from tibert_keras import TibertMaskedLM
model = TibertMaskedLM.from_preset(sys.argv[2])
texts = [f"བཀྲ་ཤིས་བདེ་ལེགས{'་ཤིས' * count}།" for count in range(7)]
history = model.fit(texts, batch_size=4, epochs=2, validation_data=texts, verbose=0).history
print(json.dumps([history["loss"], history["val_loss"], model.predict(["བཀྲ་[MASK]"], verbose=0).shape]))
"""


@pytest.mark.any_backend
@pytest.mark.slow
def test_from_records_to_champions(sample_records, finished_run, small_preset, one_layer, tmp_path) -> None:
    (tmp_path / "albert_config.json").write_text(json.dumps(one_layer.to_albert_config()))
    held_out, run = f"--input_file={sample_records}/held_out/*.tf_record", f"{tmp_path}/run"
    pretrain = [
        "pretrain", f"--input_file={sample_records}/train/*.tf_record", f"--output_dir={run}",
        f"--albert_config_file={tmp_path}/albert_config.json",
        f"--validation_file={sample_records}/held_out/*.tf_record", "--train_batch_size=16", "--max_seq_length=32",
        "--max_predictions_per_seq=5", "--num_train_steps=6", "--num_warmup_steps=1", "--save_checkpoints_steps=3",
        "--learning_rate=0.01", "--dynamic_masking",
    ]  # fmt: skip
    for seed, part in enumerate(("train", "validation")):
        write_horizontal(tmp_path / f"{part}.txt", seed=seed, num_documents=24, sentences=1)
        write_texts(tmp_path / f"{part}.tsv", seed=seed, count=24)

    def finetune(kind, ending):
        files = f"--input_file={tmp_path}/train.{ending}", f"--validation_file={tmp_path}/validation.{ending}"
        options = "--num_epochs=1", "--train_batch_size=8", "--max_seq_length=32", f"--output_dir={tmp_path}/{kind}"
        return ["finetune", kind, *files, *options, f"--model={small_preset}"]

    commands = [
        pretrain, ["champion", run], ["runs", run], ["card", run],
        # A copy, which takes no scores down.
        ["evaluate", f"--model={finished_run}/champion", held_out],
        [*finetune("tokens", "txt"), "--min_tag_count=1"], finetune("text", "tsv"),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands), f"{run}/champion"],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    losses, val_losses, shape = json.loads(done.stdout.splitlines()[-1])
    assert len(losses) == len(val_losses) == 2 and np.isfinite([*losses, *val_losses]).all()
    assert shape == [1, 5, 400]
    assert [row["step"] for row in History(run).rows] == [3, 6] and list((tmp_path / "run/logs").iterdir())
    # What was trained there is loaded here, and the scores of a model are the same.
    assert TibertMaskedLM.from_preset(f"{run}/champion").preprocessor is not None
    found = {name: float(re.search(rf"^{name}: (.+)$", done.stdout, re.M)[1]) for name in ("loss", "accuracy")}
    model = TibertMaskedLM.from_preset(f"{finished_run}/champion")
    scores = evaluate(model, Records.find(f"{sample_records}/held_out/*.tf_record"))
    assert found == pytest.approx({name: scores[name] for name in found}, abs=1e-3)
