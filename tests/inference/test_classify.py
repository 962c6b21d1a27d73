"""Labels of texts: in Python, and from text, file or standard input on the command line."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from tests.support.saved_models import classifier_of
from tibert_keras import TibertTextClassifier
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.inference.classify import classify_each

TEXTS = ["བཀྲ་ཤིས་བདེ་ལེགས།", "ཆོས་ལ།", "སངས་རྒྱས།"]


@pytest.fixture(scope="module")
def classifier(spm_models):
    return classifier_of(spm_models["bpe"])


@pytest.fixture(scope="module")
def preset(classifier, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("classifier"))
    classifier.save_to_preset(folder)
    return folder


def test_labels(classifier):
    expected = ops.convert_to_numpy(ops.softmax(classifier.predict(TEXTS, verbose=0)))
    np.testing.assert_allclose(classifier.predict_probabilities(TEXTS, batch_size=2), expected, atol=1e-6)
    labels = [classifier.labels[row.argmax()] for row in expected]
    assert classifier.predict_labels(TEXTS) == labels
    assert classifier.predict_labels([]) == []
    for activation, probabilities in (("softmax", expected), ("sigmoid", ops.sigmoid(classifier.predict(TEXTS)))):
        other = TibertTextClassifier(
            classifier.backbone, labels=classifier.labels, preprocessor=classifier.preprocessor, activation=activation
        )
        other.output_dense.set_weights(classifier.output_dense.get_weights())
        np.testing.assert_allclose(other.predict_probabilities(TEXTS), probabilities, atol=1e-6)
    found = list(classify_each(classifier, iter(TEXTS), batch_size=2))
    assert [each.label for each in found] == labels
    assert list(found[0].probabilities.values()) == pytest.approx(expected[0].tolist(), abs=1e-5)
    # A text that has Tibetan elsewhere.
    assert len(list(classify_each(classifier, ["12", "ཆོས་ལ།"], batch_size=1))) == 2


def test_pairs(classifier):
    preprocessor = classifier.preprocessor.changed(num_segments=2)
    pairs = TibertTextClassifier(classifier.backbone, labels=classifier.labels, preprocessor=preprocessor)
    expected = pairs.predict_labels((TEXTS[:2], TEXTS[1:]))
    found = classify_each(pairs, ["\t".join(pair) for pair in zip(TEXTS[:2], TEXTS[1:], strict=True)])
    assert [each.label for each in found] == expected
    with pytest.raises(InputError, match="reads 2 texts side by side. Received: 'ཆོས་ལ།' with 1. Separate them by tabs"):
        list(classify_each(pairs, ["ཆོས་ལ།"]))


def test_the_command_line(classifier, preset, tmp_path, capsys, monkeypatch):
    assert main(["classify", f"--model={preset}", *TEXTS]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == classifier.predict_labels(TEXTS) and [row[2] for row in rows] == TEXTS
    assert all(0.5 <= float(row[1]) <= 1 for row in rows)

    (tmp_path / "texts.txt").write_text("\n\n".join(TEXTS) + "\n", encoding="utf-8")
    command = ["classify", f"--model={preset}", "--format=json", f"--input_file={tmp_path}/texts.txt"]
    assert main([*command, f"--output_file={tmp_path}/out.jsonl"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["label"] for line in lines] == [row[0] for row in rows]
    assert all(line["probabilities"].keys() == set(classifier.labels) for line in lines)

    assert main(["classify", f"--model={preset}", "12", "Latin"]) == 1
    assert "There is no Tibetan letter in the text" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("\n".join(TEXTS).encode())))
    assert main(["classify", f"--model={preset}"]) == 0
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == rows
