"""What a command line imports, in processes of its own; and that Keras finds the classes all the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import keras
import pytest

from tibert_keras.cli.main import VERBS

HEAVY = ("tensorflow", "tensorflow_text", "keras", "keras_hub", "keras_nlp", "jax", "torch")

# Runs command lines one after another, and tells their exit statuses and which of the heavy modules are there then.
RUN = """
import json, sys
from tibert_keras.cli.main import main
statuses = []
for words in json.loads(sys.argv[1]):
    try:
        statuses.append(main(words))
    except SystemExit as stop:
        statuses.append(stop.code)
print(json.dumps([statuses, sorted(sys.modules.keys() & set(json.loads(sys.argv[2])))]))
"""


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Runs command lines in a process in which, and in whose workers, no heavy module can be imported."""
    folder = tmp_path_factory.mktemp("light")
    attempts = folder / "attempts"
    for name in HEAVY:
        # An `except ImportError` does not hide the attempt.
        (folder / f"{name}.py").write_text(
            f"open({str(attempts)!r}, 'a').write('{name}\\n')\nraise ImportError('no {name} here')\n"
        )

    def run(*commands: list[str]) -> list[int]:
        attempts.write_text("")
        environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(
            [sys.executable, "-c", RUN, json.dumps(commands), json.dumps(HEAVY)],
            env=environment, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        statuses, imported = json.loads(done.stdout.splitlines()[-1])
        assert (imported, attempts.read_text()) == ([], ""), done.stderr
        return statuses

    return run


def test_help(light) -> None:
    statuses = light([], ["--help"], *([*verb.split(), "--help"] for verb in VERBS))
    assert statuses == [0] * (2 + len(VERBS))


def test_from_an_edition_to_records(light, tmp_path) -> None:
    from tibert_keras.corpus.sample import write_sample

    write_sample(f"{tmp_path}/sample", num_documents=40, num_files=4)
    statuses = light(
        ["corpus", f"--input_file={tmp_path}/sample/*.txt", f"--output_dir={tmp_path}/corpus", "--workers=2"],
        ["tokenizer", f"--input_file={tmp_path}/corpus/*.txt", f"--output_dir={tmp_path}/spm", "--vocab_size=300"],
        ["records", f"--input_file={tmp_path}/corpus/*.txt", f"--output_dir={tmp_path}/records", "--workers=2",
         f"--spm_model_file={tmp_path}/spm/spiece.model", "--max_seq_length=32", "--max_predictions_per_seq=5"],
    )  # fmt: skip
    assert statuses == [0, 0, 0]
    assert list((tmp_path / "records").glob("*.tf_record"))


def test_what_runs_recorded(light, finished_run, tmp_path) -> None:
    run = str(shutil.copytree(finished_run, tmp_path / "run"))
    assert light(["runs", run], ["card", run]) == [0, 0]


# A flag that does not exist is refused for every verb; these name files and folders that do not.
NOTHING = {
    "corpus": ["--input_file=nothing/*.txt", "--output_dir=out"],
    "tokenizer": ["--input_file=nothing/*.txt", "--output_dir=out"],
    "records": ["--input_file=nothing/*.txt", "--output_dir=out", "--spm_model_file=nothing.model"],
    "records inspect": ["nothing.tf_record"],
    "pretrain": ["--input_file=nothing/*.tf_record", "--output_dir=out", "--preset=tibert_nano"],
    "runs": ["nothing"],
    "champion": ["nothing"],
    "evaluate": ["--model=nothing", "--input_file=nothing/*.tf_record"],
    "finetune tokens": ["--input_file=nothing", "--validation_file=nothing", "--output_dir=out", "--model=nothing"],
    "finetune text": ["--input_file=nothing", "--validation_file=nothing", "--output_dir=out", "--model=nothing"],
    "card": ["nothing"],
    "export": ["--model=nothing", "--output_dir=out"],
    "convert": ["--from=keras", "--input=nothing", "--to=google", "--output=out"],
    "fill-mask": ["--model=nothing", "བཀྲ་[MASK]"],
    "tag": ["--model=nothing", "བཀྲ་ཤིས།"],
    "classify": ["--model=nothing", "བཀྲ་ཤིས།"],
    "segment": ["--model=nothing", "བཀྲ་ཤིས།"],
    "segment examples": ["--input_file=nothing", "--output_file=out.tsv"],
    "serve": ["nothing"],
}


def test_refusals(light) -> None:
    assert NOTHING.keys() == VERBS.keys() - {"quickstart"}
    flags = [[*verb.split(), "--no_such_flag=1"] for verb in VERBS]
    files = [[*verb.split(), *words] for verb, words in NOTHING.items()]
    files += [
        ["convert", f"--from={name}", "--input=nothing", "--to=keras", "--output=out"]
        for name in ("google", "huggingface")
    ]
    files += [["fill-mask", "--model=nothing", "--input_file=nothing"]]
    assert light(*flags, *files) == [2] * len(flags) + [1] * len(files)


LOAD = """
import json, pickle, sys
{imports}
folder = sys.argv[1]
import keras, keras_hub
registered = [name for name in keras.saving.get_custom_objects() if name.startswith("tibert_keras>")]
model = keras.saving.load_model(folder + "/model.keras")
with open(folder + "/model.pickle", "rb") as file:
    pickled = pickle.load(file)
with open(folder + "/config.json") as file:
    config = json.load(file)
task = keras_hub.models.MaskedLM.from_preset(folder + "/preset")
kinds = [type(each).__name__ for each in (model, pickled, keras.saving.deserialize_keras_object(config), task)]
print(json.dumps([len(registered), kinds]))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory, small_preset):
    """A folder with the same model as a `.keras` file, a preset, a pickle and a configuration."""
    import pickle

    from tibert_keras import TibertMaskedLM

    folder = tmp_path_factory.mktemp("saved")
    model = TibertMaskedLM.from_preset(small_preset)
    model.save(folder / "model.keras")
    model.save_to_preset(str(folder / "preset"))
    (folder / "model.pickle").write_bytes(pickle.dumps(model))
    (folder / "config.json").write_text(json.dumps(keras.saving.serialize_keras_object(model)))
    return folder


@pytest.mark.parametrize("imports", ["import keras, tibert_keras", "import tibert_keras, keras_nlp"])
def test_keras_finds_the_classes_without_their_being_named(imports, saved) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(imports=imports), str(saved)],
        cwd=saved, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [14, ["TibertMaskedLM"] * 4]


TORCH = """
import json, sys
from tibert_keras import LAMB
import keras
registered = [name for name in keras.saving.get_custom_objects() if name.startswith("tibert_keras>")]
import numpy as np
from tibert_keras import TibertMaskedLM, TibertTextClassifier
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
preset, folder, records = sys.argv[1:]
texts = ["བཀྲ་ཤིས་བདེ་ལེགས།", "ཆོས་ལ།", "ཀ།"]
model = TibertMaskedLM.from_preset(preset)
before = model.get_weights()
losses = model.fit(texts, batch_size=2, verbose=0).history["loss"]
model.save_to_preset(folder + "/preset")
logits = [each.predict(["བཀྲ་[MASK]"], verbose=0) for each in (model, TibertMaskedLM.from_preset(folder + "/preset"))]
classifier = TibertTextClassifier.from_preset(preset, labels=["a", "b"])
losses += classifier.fit(texts, ["a", "b", "a"], verbose=0).history["loss"]
classifier.save_to_preset(folder + "/classifier")
try:
    model.compile(gradient_accumulation_steps=2)
    model.fit(texts, verbose=0)
except InputError as error:
    print(error, file=sys.stderr)
statuses = [main(words) for words in (
    ["classify", f"--model={folder}/classifier", *texts],
    ["pretrain", f"--input_file={records}/train/*.tf_record", f"--output_dir={folder}/run", "--preset=tibert_nano",
     "--max_seq_length=32", "--max_predictions_per_seq=5"],
    ["export", f"--model={preset}", f"--output_dir={folder}/saved_model"],
    ["fill-mask", f"--model={preset}", "བཀྲ་[MASK]"],
)]
changed = any(np.abs(a - b).max() for a, b in zip(before, model.get_weights()))
print(json.dumps([len(registered), losses, float(np.abs(logits[0] - logits[1]).max()), bool(changed), statuses]))
"""


def test_torch(small_preset, sample_records, tmp_path) -> None:
    """Models train and predict on it; what needs another backend says so in one line."""
    done = subprocess.run(
        [sys.executable, "-c", TORCH, small_preset, tmp_path, sample_records],
        env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    registered, losses, difference, changed, statuses = json.loads(done.stdout.splitlines()[-1])
    # The class that was asked for first imports Keras.
    assert registered == 14
    assert all(loss > 0 for loss in losses) and difference < 1e-5 and changed
    assert statuses == [0, 1, 1, 0] and not (tmp_path / "run").exists()
    assert len(re.findall("^.*Received: .*KERAS_BACKEND=torch.*$", done.stderr, re.MULTILINE)) == 3


def test_what_tensorflow_says_at_its_start_stays_away(finished_run) -> None:
    # If there may be more texts than one, TensorFlow fills them.
    words = ["fill-mask", f"--model={finished_run}", "--batch_size=1", "བཀྲ་[MASK]་"]
    code = "import sys; from tibert_keras.cli.__main__ import run; run(); print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=finished_run, capture_output=True, text=True, check=False)
    # tests/cli/test_stages.py sees what it says with `--verbose`.
    assert (done.stderr, done.stdout.splitlines()[-1]) == ("", "True") and done.stdout.startswith("1.1\t")
