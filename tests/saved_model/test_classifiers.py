"""SavedModels of classifiers: strings in, words and tags or a label out, as the Keras models have them."""

import re

import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.support.running import running
from tests.support.saved_models import assert_stock_ops, classifier_of, tagger_of
from tibert_keras import (
    TibertTextClassifier,
)
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.finetuning.tokens import tag_documents
from tibert_keras.inference.loading import load_fill_mask
from tibert_keras.saved_model.classify_text import ClassifyText
from tibert_keras.saved_model.export import export_saved_model
from tibert_keras.saved_model.precision import compare_precision, read_held_out
from tibert_keras.saved_model.tag_words import TagWords
from tibert_keras.saved_model.versions import WARM_UP_FILE
from tibert_keras.serving.models import load_models
from tibert_keras.tagging.metrics import score_tagging
from tibert_keras.tagging.reading import read_tagged

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")

TEXTS = ["  ཆོས་ལ།  ", "ཆོས་\nལ།\n\n།བཀྲ་", "Latin 12་", "༄༅། །", "ཀ\u200bཁ \u200b", "་་", "ཆོས་[MASK]། [MASK]"]
# Tshegs without syllables, and marks: at the start of a text, after syllables, and after marks; gaps.
MARKS = ["་ཆོས་་ལ ་ །་ཀ", "ཀ་", "་", "༼ཀ༽", "། ་་ ཀ", "ཀ[GAP:2]ཆོས་…་་ལ་[?]"]


@pytest.fixture(scope="module")
def tagger(spm_models):
    return tagger_of(spm_models["bpe"])


@pytest.fixture(scope="module")
def classifier(spm_models):
    return classifier_of(spm_models["bpe"])


@pytest.fixture(scope="module")
def exported(tagger, classifier, tmp_path_factory):
    """The SavedModels `tagger` and `classifier`, made from presets by the command line."""
    folder = tmp_path_factory.mktemp("exported")
    for name, model in (("tagger", tagger), ("classifier", classifier)):
        model.save_to_preset(str(folder / "presets" / name))
        assert main(["export", f"--model={folder}/presets/{name}", f"--output_dir={folder}/{name}"]) == 0
    return folder


def rows(answer):
    """The words of each text with their tags and probabilities, without the padding."""
    answer = {name: tensor.numpy() for name, tensor in answer.items()}
    return [
        [(answer["words"][row, n].decode(), answer["tags"][row, n].decode(), answer["probabilities"][row, n])
         for n in range(count)]
        for row, count in enumerate(answer["word_count"])
    ]  # fmt: skip


class TestTagWords:
    @pytest.mark.parametrize(("kind", "underline"), [("bpe", True), ("unigram", False)])
    def test_as_the_keras_model(self, spm_models, kind, underline):
        model = tagger_of(spm_models[kind], underline_between_sections=underline)
        module = TagWords(model)
        texts = TEXTS + MARKS
        found = rows(module.tag(tf.constant(texts)))
        assert ["".join(word for word, _, _ in of_text) for of_text in found] == texts
        expected = model.predict_words(texts)
        assert [[word[:2] for word in of_text] for of_text in found] == [
            [(word.form, word.tag) for word in of_text] for of_text in expected
        ]
        for of_text, scored in zip(found, model.predict_syllables(texts), strict=True):
            _, tag, probability = of_text[0]
            assert probability == pytest.approx(scored.probabilities[0, model.labels.index(tag)], abs=1e-5)

    def test_padding_and_nothing(self, tagger):
        module = TagWords(tagger)
        answer = module.tag(tf.constant(["", " ", "ཆོས་ལ།"]))
        assert answer["word_count"].numpy().tolist()[:2] == [0, 1] and answer["word_count"].dtype == tf.int32
        shapes = {tuple(answer[name].shape) for name in ("words", "tags", "probabilities")}
        assert shapes == {(3, max(answer["word_count"].numpy()))}
        assert set(answer["words"].numpy()[0]) == set(answer["tags"].numpy()[0]) == {b""}
        assert answer["words"].numpy()[1, 0] == b" " and answer["probabilities"].numpy()[:2].max() == 0
        assert module.tag(tf.constant([], tf.string))["words"].shape == (0, 0)

    def test_a_text_that_is_too_long(self, tagger):
        module = TagWords(tagger)
        with pytest.raises(tf.errors.InvalidArgumentError, match="A text is longer than 32 tokens"):
            module.tag(tf.constant(["ཆོས་" * 40]))


class TestClassifyText:
    def test_as_the_keras_model(self, classifier):
        module = ClassifyText(classifier)
        texts = [*TEXTS, "ཆོས་" * 40]  # which is cut
        answer = module.classify(tf.constant(texts))
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(classifier.predict(texts, verbose=0)))
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        assert [label.decode() for label in answer["label"].numpy()] == [
            classifier.labels[number] for number in expected.argmax(-1)
        ]
        assert answer["labels"].numpy().tolist() == [[b"prose", b"verse"]] * len(texts)

    def test_two_texts_side_by_side(self, classifier, tmp_path):
        preprocessor = classifier.preprocessor.changed(num_segments=2)
        pairs = TibertTextClassifier(classifier.backbone, labels=classifier.labels, preprocessor=preprocessor)
        assert pairs.preprocessor.get_config()["num_segments"] == 2
        first, second = TEXTS, [TEXTS[-1], "ཆོས་" * 40, *TEXTS[2:]]  # one of which is cut
        expected = pairs.predict_probabilities((first, second))
        export_saved_model(pairs, tmp_path / "saved_model")
        assert_stock_ops(tmp_path / "saved_model")
        signatures = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
        assert set(signatures) == {"serving_default", "classify_pairs", "tokenize"}
        answer = signatures["serving_default"](text=tf.constant(first), second_text=tf.constant(second))
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        body = {"instances": [{"text": one, "second_text": two} for one, two in zip(first, second, strict=True)]}
        with running(load_models([str(tmp_path / "saved_model")], num_versions=1)) as url:
            answers = requests.post(f"{url}/v1/models/saved_model:predict", json=body, timeout=60).json()
        np.testing.assert_allclose([each["probabilities"] for each in answers["predictions"]], expected, atol=1e-5)
        waterfall = TibertTextClassifier(
            classifier.backbone, labels=classifier.labels, preprocessor=preprocessor.changed(truncate="waterfall")
        )
        long = ["ཆོས་" * 40, "ཀ"], ["ཁ་" * 40, "ག་" * 40]
        module = ClassifyText(waterfall)
        answer = module.classify_pairs(*map(tf.constant, long))
        np.testing.assert_allclose(answer["probabilities"], waterfall.predict_probabilities(long), atol=1e-5)
        with pytest.raises(InputError, match="Received: num_segments=3"):
            ClassifyText(
                TibertTextClassifier(
                    classifier.backbone, labels=classifier.labels, preprocessor=preprocessor.changed(num_segments=3)
                )
            )

    def test_softmax(self, classifier):
        softmax = TibertTextClassifier(
            classifier.backbone, labels=classifier.labels, preprocessor=classifier.preprocessor, activation="softmax"
        )
        softmax.output_dense.set_weights(classifier.output_dense.get_weights())
        modules = ClassifyText(softmax), ClassifyText(classifier)
        answers = [module.classify(tf.constant(TEXTS))["probabilities"] for module in modules]
        np.testing.assert_allclose(*answers, atol=1e-5)


class TestSavedModels:
    def test_signatures(self, exported):
        for name, own in (("tagger", "tag"), ("classifier", "classify")):
            signatures = tf.saved_model.load(str(exported / name)).signatures
            assert set(signatures) == {"serving_default", own, "tokenize"}
            answered = set()
            for record in tf.data.TFRecordDataset(str(exported / name / WARM_UP_FILE)):
                request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
                inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
                signatures[request.model_spec.signature_name](**inputs)
                answered.add(request.model_spec.signature_name)
            assert answered == set(signatures)

    def test_ops(self, exported):
        """Of running text and, as a tagger always does, cut at tshegs; `TestPrecision` sees to compact weights."""
        for folder in (exported / "tagger", exported / "classifier"):
            assert_stock_ops(folder)

    def test_served(self, exported, tagger, classifier):
        models = load_models([str(exported / "tagger"), str(exported / "classifier")], num_versions=1)
        with running(models) as url:
            body = {"instances": TEXTS}
            answers = [
                requests.post(f"{url}/v1/models/{name}:predict", json=body, timeout=60).json()["predictions"]
                for name in ("tagger", "classifier")
            ]
        for text, answer, words in zip(TEXTS, answers[0], tagger.predict_words(TEXTS), strict=True):
            assert "".join(answer["words"]) == text
            assert answer["tags"][: answer["word_count"]] == [word.tag for word in words]
            assert len(answer["words"]) == len(answer["tags"]) == len(answer["probabilities"])
        labels = classifier.predict(TEXTS, verbose=0).argmax(-1)
        assert [answer["label"] for answer in answers[1]] == [classifier.labels[number] for number in labels]

    def test_a_classifier_fills_no_masks(self, exported):
        with pytest.raises(
            InputError, match="The model is a tagger, and a masked language model is needed. Received: "
        ):
            load_fill_mask(exported / "presets/tagger")

    def test_without_a_tokenizer(self, classifier, tmp_path):
        model = TibertTextClassifier(classifier.backbone, labels=classifier.labels)
        with pytest.raises(InputError, match="has no tokenizer"):
            export_saved_model(model, tmp_path / "out")


class TestPrecision:
    """What fewer bits cost is measured on the files of a fine-tuning."""

    TAGGED = "ཆོས་|NOUN ལ|ADP །|PUNCT\nབཀྲ་ཤིས་|NOUN ལ|ADP །|PUNCT\n"
    LABELLED = "prose\tཆོས་ལ།\nverse\tབཀྲ་ཤིས།\nverse\tལ།\n"

    def export(self, exported, name, tmp_path, content, *flags, precision="float16"):
        (tmp_path / "held_out.txt").write_text(content, encoding="utf-8")
        given = [f"--model={exported}/presets/{name}", f"--output_dir={tmp_path}/out", f"--precision={precision}"]
        return main(["export", *given, f"--input_file={tmp_path}/held_out.txt", *flags])

    def test_tagger(self, exported, tagger, tmp_path, capsys):
        """Read as its fine-tuning did: SOAS's tags renamed, and the documents of the test alone."""
        content = self.TAGGED.replace("NOUN", "n.count").replace("ADP", "case.all").replace("PUNCT", "punc")
        (tmp_path / "split.tsv").write_text("held_out:1\ttrain\nheld_out:2\ttest\n", encoding="utf-8")
        flags = [f"--split_file={tmp_path}/split.tsv"]
        assert self.export(exported, "tagger", tmp_path, content, *flags) == 1
        assert "A tag is unknown here" in capsys.readouterr().err and not (tmp_path / "out").exists()
        flags.append("--universal_tags=true")
        assert self.export(exported, "tagger", tmp_path, content, *flags, precision="dynamic_range") == 0
        (tmp_path / "test.txt").write_text(self.TAGGED.splitlines()[1], encoding="utf-8")
        documents = read_tagged(f"{tmp_path}/test.txt")
        full = score_tagging(documents, list(tag_documents(tagger, documents)), known=()).values["joint_f1"]
        figures, folder = capsys.readouterr().out.splitlines()
        assert re.fullmatch(
            rf"joint_f1: {full:.4f} in float32, [01]\.\d{{4}} in dynamic_range, [+-]0\.\d{{4}}", figures
        )
        assert folder == f"{tmp_path}/out"
        assert_stock_ops(tmp_path / "out")
        answer = tf.saved_model.load(folder).signatures["tag"](tf.constant(TEXTS))
        module = TagWords(tagger)
        expected = module.tag(tf.constant(TEXTS))
        assert answer["words"].numpy().tolist() == expected["words"].numpy().tolist()
        assert 0 < np.abs(answer["probabilities"] - expected["probabilities"]).max() < 0.02

    def test_classifier(self, exported, classifier, tmp_path, capsys):
        assert self.export(exported, "classifier", tmp_path, self.LABELLED) == 0
        found = classifier.predict(["ཆོས་ལ།", "བཀྲ་ཤིས།", "ལ།"], verbose=0).argmax(-1)
        full = np.mean(found == [0, 1, 1])
        figures, folder = capsys.readouterr().out.splitlines()
        assert figures.startswith(f"accuracy: {full:.4f} in float32, ") and " in float16, " in figures
        assert_stock_ops(tmp_path / "out")
        assert "classify" in tf.saved_model.load(folder).signatures

    def test_the_weights_are_those_of_the_precision(self, classifier, tmp_path, monkeypatch):
        """And afterwards as before."""
        (tmp_path / "held_out.tsv").write_text(self.LABELLED, encoding="utf-8")
        before, seen = classifier.get_weights(), []
        monkeypatch.setattr(
            "tibert_keras.saved_model.precision._figures",
            lambda model, _: seen.append(model.get_weights()) or {"accuracy": 0.5},
        )
        held_out = read_held_out(classifier, f"{tmp_path}/held_out.tsv")
        compare_precision(classifier, "float16", held_out)
        for given, full, compact, after in zip(before, *seen, classifier.get_weights(), strict=True):
            assert (given == full).all() and (given == after).all()
            np.testing.assert_array_equal(compact, given.astype("float16").astype("float32"))

    @pytest.mark.parametrize(
        "name, content, flags, message",
        [
            ("tagger", "ཆོས་|NOUN ལ|VERB\n", [], "Received: 'VERB' in 'held_out:1'"),
            ("classifier", "song\tཆོས།\n", [], "no such label. Received: 'song'"),
            ("classifier", "prose\tཆོས།\tལ།\n", [], "2 texts a line, not 1"),
            ("classifier", LABELLED, ["--universal_tags=true"], "Only a tagger"),
        ],
    )
    def test_other_files(self, exported, tmp_path, capsys, name, content, flags, message):
        assert self.export(exported, name, tmp_path, content, *flags) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
