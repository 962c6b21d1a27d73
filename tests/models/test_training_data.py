"""Strings and ids in any container, in `fit`, `evaluate` and `predict`."""

import json
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tests.support.base import ON_JAX
from tests.support.preloaded import Command
from tests.support.tiny_models import randomize, tiny
from tibert_keras import (
    TibertMaskedLM,
    TibertMaskedLMPreprocessor,
    TibertPretraining,
    TibertTextClassifier,
    TibertTextClassifierPreprocessor,
    TibertTokenizer,
)
from tibert_keras.errors import InputError
from tibert_keras.models.training_data import as_texts, batches_of, preprocessed, split_off

SIZES = {"num_layers": 1, "vocabulary_size": 400}
TEXTS = [f"བཀྲ་ཤིས་བདེ་ལེགས{'་ཤིས' * count}།" for count in range(7)]
NAMES = ["a", "b"] * 3 + ["a"]


class Batches(keras.utils.PyDataset):
    """Two batches of a user's own."""

    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class Series:
    """As far as it matters, that of pandas."""

    def __init__(self, values):
        self.values = values

    def to_list(self):
        return self.values

    def to_numpy(self):
        return np.array(self.values, object)


@pytest.fixture(scope="module")
def tokenizer(spm_models):
    return TibertTokenizer(spm_models["bpe"])


@pytest.fixture(scope="module")
def model(tokenizer):
    preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=16, mask_selection_length=2)
    return randomize(TibertMaskedLM(tiny(**SIZES), preprocessor))


@pytest.fixture(scope="module")
def classifier(tokenizer):
    preprocessor = TibertTextClassifierPreprocessor(tokenizer, 16, labels=["a", "b"])
    return randomize(TibertTextClassifier(tiny(**SIZES), labels=["a", "b"], preprocessor=preprocessor, dropout=0.0))


def containers():
    """The same seven texts, in batches of four, as users give them."""
    halves = TEXTS[:4], TEXTS[4:]
    return {
        "list": TEXTS,
        "array": np.array(TEXTS),
        "tensor": tf.constant(TEXTS),
        "objects": np.array(TEXTS, object),
        "tensors": [tf.constant(text) for text in TEXTS],
        "series": Series(TEXTS),
        "dataset": tf.data.Dataset.from_tensor_slices(TEXTS).batch(4),
        "generator": (list(half) for half in halves),
        "generator of tuples": ((np.array(half),) for half in halves),
        "PyDataset": Batches(*((list(half),) for half in halves)),
    }


# === The order and the masks ===


def read(batches):
    """The batches of an epoch as `fit` sees them, in lists."""
    if isinstance(batches, keras.utils.PyDataset):
        found = [batches[index] for index in range(batches.num_batches)]
        batches.on_epoch_end()
    else:
        found = list(batches)
    return keras.tree.map_structure(lambda leaf: np.asarray(leaf).tolist(), found)


def test_a_list_is_shuffled_in_each_epoch():
    def two_epochs(x):
        batches = batches_of(x, batch_size=8, shuffle=True, seed=3)
        return [read(batches), read(batches)]

    numbers = list(map(str, range(50)))
    epochs = [[int(text) for text in keras.tree.flatten(epoch)] for epoch in two_epochs(numbers)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(50))] * 2
    assert epochs[0] != epochs[1] != list(range(50))
    # The segments of a text stay together.
    pairs = two_epochs((numbers, numbers))
    assert [[int(text) for ((a, b),) in epoch for text in a if a == b] for epoch in pairs] == epochs


def test_masks_are_drawn_anew_or_not(model):
    """From seeds that come with the batches, whatever the order in which they are preprocessed."""

    def masks(anew, seed=1):
        texts = batches_of(TEXTS, batch_size=2, shuffle=False, seed=0)
        batches = preprocessed(texts, model.preprocess_samples, seed=seed, anew=anew)
        return [[x["token_ids"] for x, _, _ in read(batches)] for _ in range(2)]

    first, second = masks(True)
    assert first != second
    assert masks(True) == [first, second] != masks(True, seed=2)
    first, second = masks(False)
    assert first == second


@pytest.mark.any_backend
def test_set_random_seed_governs_everything(model):
    """Order and masks, of lists and datasets, and of the preprocessor called by itself."""
    model.compile(keras.optimizers.SGD(0.0))

    def run(seed):
        keras.utils.set_random_seed(seed)
        masked = model.preprocessor(TEXTS)[0]["token_ids"].tolist()
        loss = model.evaluate(dataset, verbose=0)[0]
        return masked, round(loss, 4)

    dataset = tf.data.Dataset.from_tensor_slices(TEXTS).batch(4)
    assert run(1) == run(1) != run(2)

    def train(seed):
        keras.utils.set_random_seed(seed)
        history = model.fit(TEXTS, batch_size=4, verbose=0, validation_data=TEXTS).history
        return [*history["loss"], *history["val_loss"]]

    first = train(5)
    assert train(5) == pytest.approx(first, abs=1e-4) != train(6)


# === Containers ===


@pytest.fixture(scope="module")
def predicted(classifier):
    return classifier.predict(TEXTS, verbose=0)


ARRAYS = ["array", "tensor", "objects", "tensors", "series"]


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(classifier, predicted, kind):
    """They become a list, in `fit()` and `evaluate()` as well."""
    assert as_texts(containers()[kind]) == TEXTS
    np.testing.assert_allclose(classifier.predict(containers()[kind], batch_size=4, verbose=0), predicted, atol=1e-5)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in ("list", "dataset", "PyDataset") else [pytest.mark.any_backend])
        for kind in containers()
        if kind not in ARRAYS
    ],
)
def test_containers(model, classifier, predicted, kind):
    data, size = containers()[kind], 4 if kind == "list" else None
    history = model.fit(data, batch_size=size, verbose=0, validation_data=TEXTS).history
    assert np.isfinite([history["loss"][0], history["val_loss"][0]]).all()
    assert np.isfinite(model.evaluate(containers()[kind], batch_size=size, verbose=0)[0])
    np.testing.assert_allclose(classifier.predict(containers()[kind], batch_size=size, verbose=0), predicted, atol=1e-5)


@pytest.mark.any_backend
def test_containers_with_labels(classifier):
    classifier.compile(keras.optimizers.SGD(0.0))
    expected = classifier.evaluate(TEXTS, NAMES, verbose=0)
    halves = (TEXTS[:4], NAMES[:4]), (TEXTS[4:], NAMES[4:])
    for data in (
        (each for each in halves),
        Batches(*halves),
        tf.data.Dataset.from_tensor_slices((TEXTS, NAMES)).batch(4),
    ):
        np.testing.assert_allclose(classifier.evaluate(data, verbose=0), expected, atol=1e-5)
    for validation in ((TEXTS, NAMES), [TEXTS, NAMES], Batches(*halves)):
        history = classifier.fit(TEXTS, NAMES, verbose=0, validation_data=validation).history
        np.testing.assert_allclose(history["val_loss"][0], expected[0], atol=1e-5)


def test_ids_are_taken_as_they_are(model):
    """By a model with a preprocessor too."""
    x, y, weights = model.preprocessor(TEXTS)
    expected = model.evaluate(x, y, sample_weight=weights, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(4)
    for data in (dataset, Batches((x, y, weights)), (each for each in [(x, y, weights)])):
        np.testing.assert_allclose(model.evaluate(data, verbose=0), expected, atol=1e-5)
    assert model.fit(x, y.tolist(), sample_weight=weights, verbose=0).history["loss"]
    assert model.fit(dataset, validation_data=(x, y, weights), verbose=0).history["val_loss"]


@pytest.mark.any_backend
def test_validation_split(model):
    first, second = split_off(TEXTS, NAMES, None, 0.3)
    assert first == (TEXTS[:4], NAMES[:4], None) and second == (TEXTS[4:], NAMES[4:], None)
    assert model.fit(TEXTS, validation_split=0.3, verbose=0).history["val_loss"]
    with pytest.raises(InputError, match="Received: 7 texts, validation_split=0.99"):
        model.fit(TEXTS, validation_split=0.99)


@pytest.mark.any_backend
def test_what_cannot_be_trained_on(model, classifier):
    for data, message in (
        (tf.data.Dataset.from_tensor_slices(TEXTS), r"Received: single strings. Give dataset.batch\(32\)"),
        *((empty, "no texts. Received: an empty list") for empty in ([], np.array([], object), ([], []))),
        *((one, "Texts come in a list.* Received: 'ཀ།'") for one in ("ཀ།", np.array("ཀ།"), tf.constant("ཀ།"))),
        (("ཀ།", "ཁ།"), r"a tuple of lists side by side. Received: \('ཀ།', 'ཁ།'\)"),
        *(((["ཀ།", other]), f"A text is not a string. Received: {other}") for other in (None, 7)),
        ([b"\xff"], r"A text is not Unicode. Received: '\\udcff' at character 0"),
        (np.array([["ཀ།"]]), r"A text is not a string. Received: \['ཀ།'\]"),
        ((TEXTS, TEXTS[:1]), "Texts side by side come in lists of one length. Received: lists of \\[7, 1\\] texts"),
    ):
        with pytest.raises(InputError, match=message):
            model.fit(data, verbose=0)
    for size in (0, -1, 1.5, "2"):
        with pytest.raises(InputError, match="A batch has one example or more. Received: batch_size="):
            model.evaluate(TEXTS, batch_size=size)
    with pytest.raises(InputError, match="A text is not Unicode"):
        model.preprocessor.tokenizer("\ud800")
    for predict in (model.predict, model.predict_on_batch, classifier.predict):
        with pytest.raises(InputError, match="Texts come in a list"):
            predict("ཀ།")
    # In no order, without a length, or with names.
    for make in (set, iter, lambda texts: map(str, texts), lambda texts: {"text": texts}, lambda _: None):
        for call in (model.fit, classifier.predict, classifier.predict_labels, as_texts):
            with pytest.raises(InputError, match="Texts come in a list, .* Received: .* Give list"):
                call(make(TEXTS))
    for texts in ((text for text in TEXTS), tf.data.Dataset.from_tensors(TEXTS), model.preprocessor(TEXTS)[0]):
        with pytest.raises(InputError, match="Texts come in a list, .* Received: "):
            as_texts(texts)
    with pytest.raises(InputError, match="A text is not a string. Received: nan"):
        classifier.fit(np.array(["ཀ།", float("nan")], object), ["a", "b"])
    with pytest.raises(InputError, match="no tokenizer and takes only ids. Received: strings"):
        TibertMaskedLM(model.backbone).fit(TEXTS)
    with pytest.raises(InputError, match="nothing of the order of sentences"):
        TibertPretraining(model.backbone, model.preprocessor).fit(TEXTS)


@pytest.mark.any_backend
def test_what_is_wrong_in_a_batch(model, classifier):
    """Is said in one line, whatever the batch comes in."""
    ids, right = classifier.preprocessor(TEXTS[:2]), np.array([0, 1])
    without = {name: value for name, value in ids.items() if name != "segment_ids"}
    for x, y, message in (
        (ids, np.array([0, 9]), "no such class. Received: 9. Give numbers from 0 to 1"),
        (ids, np.eye(2), r"labels of shape \(2, 2\) for examples"),
        (ids, np.array(["a", "b"]), "are numbers. Received: (strings|'a')"),
        (without, right, "ids by name. Received: a dict of token_ids, padding_mask"),
        (
            {**ids, "token_ids": ids["token_ids"] + 400},
            right,
            r"token_ids. Received: 4\d\d. Give numbers from 0 to 399",
        ),
        (TEXTS[:2], np.array(["a", "c"]), "no such label. Received: \"?'?c\"?'?. Give one of a, b"),
    ):
        dataset = tf.data.Dataset.from_tensors((x, y))
        for call, data in (
            (classifier.fit, dataset), (classifier.evaluate, dataset), (classifier.fit, Batches((x, y))),
            (classifier.evaluate, (each for each in [(x, y)])), (classifier.train_on_batch, None),
            (classifier.test_on_batch, None), (partial(classifier.fit, ids, right, validation_data=dataset), ()),
        ):  # fmt: skip
            with pytest.raises(InputError, match=message) as caught:
                call(x, y) if data is None else call(*[data] if data else [])
            assert "\n" not in str(caught.value)
    for y, weights in ((["a"], None), (["a", "b"], [1.0])):
        parts = tuple(tf.data.Dataset.from_tensors(part) for part in (TEXTS[:2], y, weights) if part is not None)
        with pytest.raises(InputError, match=r"Received: batches of shapes \[\[2\], .*\[1\]\]. Give one for each"):
            classifier.fit(tf.data.Dataset.zip(parts))
    with pytest.raises(InputError, match="A weight is a number from 0. Received: nan. Give others."):
        classifier.fit(tf.data.Dataset.from_tensors((TEXTS[:2], ["a", "b"], [1.0, float("nan")])))
    for predict in (classifier.predict, classifier.predict_on_batch, lambda x: classifier.predict(Batches((x,)))):
        with pytest.raises(InputError, match="ids by name"):
            predict(without)
    for call in (model.train_on_batch, classifier.test_on_batch, classifier.predict_on_batch):
        with pytest.raises(InputError, match="Texts come in a list"):
            call("ཀ།")
    for call in (TibertMaskedLM(model.backbone).train_on_batch, TibertMaskedLM(model.backbone).predict_on_batch):
        with pytest.raises(InputError, match="takes only ids. Received: strings"):
            call(TEXTS)
    with pytest.raises(InputError, match="Each task has its labels. Received: ndarray of shape .* masked_lm, sentence"):
        TibertPretraining(model.backbone).fit(*model.preprocessor(TEXTS)[:2])


def test_strings_in_one_batch(model, classifier):
    assert np.isfinite(model.train_on_batch(TEXTS)).all()
    assert np.isfinite(classifier.train_on_batch(TEXTS[:2], ["a", "b"], [1.0, 2.0])).all()
    numbers = classifier.test_on_batch(classifier.preprocessor(TEXTS[:2]), [0, 1], [1, 1])
    np.testing.assert_allclose(classifier.test_on_batch(TEXTS[:2], ["a", "b"]), numbers, atol=1e-5)


# === Masks in the text ===


def test_predict_answers_the_masks(model):
    """Those of each text, in order, as many as there are; a text without any is masked as in training."""
    texts = ["བཀྲ་[MASK]་བདེ་[MASK]་[MASK]", "ཆོས་ལ་[MASK]", "བཀྲ་ཤིས་བདེ་ལེགས།"]
    inputs = model.preprocessor.call_to_predict(texts)
    token_ids, positions = inputs["token_ids"], inputs["mask_positions"]
    assert positions.shape == (3, 3)
    assert [np.flatnonzero(row == 4).tolist() for row in token_ids[:2]] == [positions[0].tolist(), [positions[1, 0]]]
    assert positions[1, 1:].tolist() == [0, 0] and positions[2, 0] > 0
    logits = model.predict(texts, batch_size=2, verbose=0)
    assert logits.shape == (3, 3, 400)
    np.testing.assert_allclose(logits[:2], ops.convert_to_numpy(model(inputs))[:2], atol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(texts[:2]), logits[:2], atol=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices(texts[1:2] * 2).batch(2)
    np.testing.assert_allclose(model.predict(dataset, verbose=0)[0, 0], logits[1, 0], atol=1e-5)
    with pytest.raises(InputError, match="behind the 16 tokens of a sequence. Received: 'བཀྲ་"):
        model.predict(["བཀྲ་" * 30 + "[MASK]"])


# === In a SavedModel ===


EXPORT = """
import sys, tensorflow as tf, tensorflow_text
loaded = tf.saved_model.load(sys.argv[1])
print(loaded.serve(tf.constant(["བཀྲ་ཤིས།"])).numpy().tolist())
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a SavedModel of TensorFlow operations")
def test_a_preprocessor_in_a_saved_model(model, classifier, tmp_path):
    """That of texts runs in another process; one that works in Python is refused."""

    def export(task, call, folder):
        archive = keras.export.ExportArchive()
        archive.track(task)
        archive.add_endpoint("serve", call, input_signature=[tf.TensorSpec([None], tf.string)])
        archive.write_out(folder, verbose=False)

    export(classifier, lambda text: classifier(classifier.preprocessor(text)), str(tmp_path / "texts"))
    (tmp_path / "serve.py").write_text(EXPORT)
    job = Command([tmp_path / "serve.py", tmp_path / "texts"], tmp_path)
    assert job.wait() == 0, job.log
    expected = classifier.predict(["བཀྲ་ཤིས།"], verbose=0)
    np.testing.assert_allclose(json.loads(job.output), expected, atol=1e-5)
    preprocessor = model.preprocessor.from_config(model.preprocessor.get_config())
    preprocessor.tokenizer = model.preprocessor.tokenizer
    masked = TibertMaskedLM(model.backbone, preprocessor)
    with pytest.raises(InputError, match="works in Python. Received: TibertMaskedLMPreprocessor. Export with"):
        export(masked, lambda text: masked(masked.preprocessor(text)[0]), str(tmp_path / "masks"))


# === Several devices ===


@pytest.mark.slow
def test_strings_on_two_devices(two_devices):
    """Every task trains, evaluates and predicts on raw strings as on one device; the last batch is smaller."""
    one, two = json.loads((two_devices / "results.json").read_text())
    assert one.keys() == {"masked_lm", "classifier", "tagger"} - ({"classifier"} if ON_JAX else set())
    # JAX, and the tagger's loss, compute the same on both. On TensorFlow the masks are others, and Keras's own
    # cross-entropy, the classifier's, is a mean of the replicas' means. The loss of an epoch weighs the parts of a
    # smaller last batch alike.
    assert two["tagger"][-1] == pytest.approx(one["tagger"][-1], abs=1e-5)
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=1e-4 if ON_JAX else 0.1), name
