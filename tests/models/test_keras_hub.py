"""What KerasHub's own ALBERT tests ask of its classes, asked of ours; and models that pass between the two."""

import json

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops, tree

import tibert_keras
from tests.support.base import EAGERLY
from tests.support.tiny_models import randomize
from tibert_keras import (
    TibertBackbone,
    TibertMaskedLM,
    TibertMaskedLMPreprocessor,
    TibertPretraining,
    TibertTextClassifier,
    TibertTextClassifierPreprocessor,
    TibertTokenClassifier,
    TibertTokenizer,
)
from tibert_keras.errors import InputError
from tibert_keras.training.init_checkpoint import read_any

SIZES = {"num_layers": 1, "num_heads": 2, "embedding_dim": 4, "hidden_dim": 8, "intermediate_dim": 12}
ALL_MASKED = {"mask_selection_rate": 1.0, "mask_token_rate": 1.0, "random_token_rate": 0.0, "mask_selection_length": 10}
TEXTS = ["བཀྲ་ཤིས་བདེ་ལེགས།", "ཆོས་ལ་བསྔགས་པ།"]


@pytest.fixture(scope="module")
def tokenizer(spm_models):
    return TibertTokenizer(spm_models["bpe"])


@pytest.fixture(scope="module")
def albert(spm_models):
    """KerasHub's own masked language model over our vocabulary, with random weights."""
    tokenizer = keras_hub.models.AlbertTokenizer(spm_models["bpe"])
    backbone = keras_hub.models.AlbertBackbone(vocabulary_size=400, max_sequence_length=16, **SIZES)
    preprocessor = keras_hub.models.AlbertMaskedLMPreprocessor(
        tokenizer, sequence_length=12, mask_selection_length=3, mask_selection_rate=0.3
    )
    return randomize(keras_hub.models.AlbertMaskedLM(backbone, preprocessor))


@pytest.fixture(scope="module")
def ours(tokenizer):
    preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=12, mask_selection_length=3)
    backbone = TibertBackbone(vocabulary_size=400, max_sequence_length=16, **SIZES)
    return randomize(TibertMaskedLM(backbone, preprocessor))


@pytest.fixture(scope="module")
def presets(albert, ours, tmp_path_factory):
    """The folders of a preset of each kind: ours, KerasHub's masked language model, classifier and encoder alone."""
    folder = tmp_path_factory.mktemp("presets")
    models = keras_hub.models
    albert.save_to_preset(str(folder / "masked_lm"))
    reader = models.AlbertTextClassifierPreprocessor(albert.preprocessor.tokenizer, sequence_length=12)
    classifier = randomize(models.AlbertTextClassifier(albert.backbone, 3, reader, activation="softmax"))
    classifier.save_to_preset(str(folder / "classifier"))
    albert.backbone.save_to_preset(str(folder / "encoder"))
    albert.preprocessor.tokenizer.save_to_preset(str(folder / "encoder"))
    ours.save_to_preset(str(folder / "ours"))
    return folder


def ids(texts, preprocessor):
    return preprocessor(texts)[0]


def close(actual, expected, atol=1e-5):
    np.testing.assert_allclose(ops.convert_to_numpy(actual), ops.convert_to_numpy(expected), rtol=0, atol=atol)


@pytest.mark.any_backend
class TestArguments:
    """KerasHub's arguments, in its order."""

    def test_masking_everything_and_nothing(self, tokenizer):
        text = TEXTS[0]
        pieces = tokenizer.encode([text])[0][:10]
        packed = [2, *pieces, 3] + [0] * (10 - len(pieces))
        x, y, sample_weight = TibertMaskedLMPreprocessor(tokenizer, 12, **ALL_MASKED)(text)
        count = len(pieces)
        assert x["token_ids"].tolist() == [2, *[4] * count, 3] + [0] * (10 - count)
        assert x["mask_positions"].tolist() == [*range(1, count + 1), *[0] * (10 - count)]
        assert (y.tolist()[:count], sample_weight.sum()) == (pieces, count)
        x, y, sample_weight = TibertMaskedLMPreprocessor(tokenizer, 12, mask_selection_rate=0.0)(text)
        assert x["token_ids"].tolist() == packed
        assert not (x["mask_positions"].any() or y.any() or sample_weight.any())

    def test_a_classifier_without_labels(self, tokenizer):
        preprocessor = TibertTextClassifierPreprocessor(tokenizer, 12)
        x, y, sample_weight = preprocessor(TEXTS, [1, 0], [1.0, 0.5])
        assert (x["token_ids"].shape, list(y), list(sample_weight)) == ((2, 12), [1, 0], [1.0, 0.5])
        backbone = TibertBackbone(vocabulary_size=400, max_sequence_length=12, **SIZES)
        model = TibertTextClassifier(backbone, 2, preprocessor, None, 0.0)
        assert (model.num_classes, model.labels, model.preprocessor.labels) == (2, ["0", "1"], ["0", "1"])
        assert preprocessor.labels is None
        model.compile(**EAGERLY)
        model.fit(TEXTS, [1, 0], verbose=0)
        with pytest.raises(InputError, match="no such label. Received: 'verse'"):
            model.fit(TEXTS, ["verse", "prose"], verbose=0)
        with pytest.raises(InputError, match="Classes without names are numbers. Received: 'verse'"):
            preprocessor(TEXTS, ["verse", "prose"])
        with pytest.raises(ValueError):
            preprocessor([["one", "two"], ["three", "four"]])

    def test_the_length_can_change(self, tokenizer):
        for preprocessor in (
            TibertMaskedLMPreprocessor(tokenizer, sequence_length=12),
            TibertTextClassifierPreprocessor(tokenizer, sequence_length=12),
        ):
            preprocessor(TEXTS)
            preprocessor.sequence_length = 17
            outputs = preprocessor(TEXTS)
            assert (outputs[0] if isinstance(outputs, tuple) else outputs)["token_ids"].shape == (2, 17)

    def test_other_objects_of_keras_hub(self, albert, tokenizer):
        """Its encoder and its tokenizer, given to our classes."""
        model = TibertMaskedLM(albert.backbone)
        assert type(model.backbone) is TibertBackbone
        inputs = {name: value for name, value in ids(TEXTS, albert.preprocessor).items() if name != "mask_positions"}
        tree.map_structure(close, model.backbone(inputs), albert.backbone(inputs))
        preprocessor = TibertMaskedLMPreprocessor(albert.preprocessor.tokenizer, sequence_length=12)
        assert preprocessor.tokenizer(TEXTS[0]).tolist() == tokenizer(TEXTS[0]).tolist()
        with pytest.raises(InputError, match="must be an ALBERT. Received: BertBackbone"):
            TibertMaskedLM(keras_hub.models.BertBackbone(20, 1, 1, 4, 8))
        with pytest.raises(InputError, match="Received: ByteTokenizer"):
            TibertMaskedLMPreprocessor(keras_hub.tokenizers.ByteTokenizer())

    def test_the_classes_are_keras_hubs(self, ours):
        models = keras_hub.models
        assert isinstance(ours, models.AlbertMaskedLM)
        assert isinstance(ours.preprocessor, models.AlbertMaskedLMPreprocessor)
        assert issubclass(TibertTextClassifierPreprocessor, models.AlbertTextClassifierPreprocessor)

    @pytest.mark.parametrize("name", ["dropout", "no_such_thing"])
    def test_arguments_that_do_not_exist(self, presets, name):
        for make in (
            lambda: TibertMaskedLM.from_preset(str(presets / "ours"), **{name: 0.5}),
            lambda: TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=50, **{name: 0.5}),
            lambda: keras_hub.models.MaskedLM.from_preset(str(presets / "ours"), **{name: 0.5}),
        ):
            with pytest.raises(InputError, match=f"no such argument. Received: {name}=0.5"):
                make()
        with pytest.raises(InputError, match="no such argument. Received: vocabulary_size=1003"):
            TibertMaskedLM.from_preset(str(presets / "ours"), vocabulary_size=1003)
        with pytest.raises(InputError, match="from_preset takes no such argument. Received: no_such_thing=1. Leave it"):
            TibertBackbone.from_preset(str(presets / "ours"), no_such_thing=1)
        assert TibertBackbone.from_preset(str(presets / "ours"), dropout=0.5).dropout == 0.5

    def test_arguments_of_every_class(self, presets):
        """Those that exist no more than those that contradict the preset."""
        folder = str(presets / "ours")
        for make in (TibertTokenizer, TibertMaskedLMPreprocessor, TibertTextClassifierPreprocessor):
            with pytest.raises(
                InputError, match=f"{make.__name__}.from_preset takes no such argument.*no_such_thing=1"
            ):
                make.from_preset(folder, no_such_thing=1)
        for make, options in ((TibertMaskedLM, {}), (TibertTextClassifier, {"num_classes": 2})):
            with pytest.raises(InputError, match="brings its own encoder. Received: backbone=TibertBackbone. Call"):
                make.from_preset(folder, backbone=TibertBackbone.from_preset(folder), **options)
        assert TibertMaskedLMPreprocessor.from_preset(folder, sequence_length=9, name="reader").sequence_length == 9

    @pytest.mark.parametrize(
        ("make", "options", "message"),
        [
            (TibertMaskedLMPreprocessor, {"sequence_length": 2}, "Received: sequence_length=2"),
            (TibertTextClassifierPreprocessor, {"sequence_length": None}, "Received: sequence_length=None"),
            (TibertTextClassifierPreprocessor, {"truncate": "left"}, "Received: truncate='left'"),
            (TibertTextClassifierPreprocessor, {"labels": "ab"}, "Received: labels='ab'"),
            (TibertTextClassifierPreprocessor, {"num_segments": 0}, "Received: num_segments=0"),
            (TibertMaskedLMPreprocessor, {"mask_selection_rate": 1.5}, "between 0 and 1. Received: 1.5"),
            (TibertMaskedLMPreprocessor, {"ngram": 0}, "Received: ngram=0"),
        ],
    )
    def test_what_a_preprocessor_checks(self, tokenizer, make, options, message):
        with pytest.raises(InputError, match=message):
            make(tokenizer, **options)

    def test_parts_that_do_not_fit(self, tokenizer):
        backbone = TibertBackbone(vocabulary_size=399, max_sequence_length=16, **SIZES)
        with pytest.raises(InputError, match="Received: 400 pieces in the tokenizer, vocab_size=399"):
            TibertMaskedLM(backbone, TibertMaskedLMPreprocessor(tokenizer, sequence_length=16))
        # A larger table is what Google's models have.
        larger = TibertBackbone(vocabulary_size=500, max_sequence_length=16, **SIZES)
        TibertMaskedLM(larger, TibertMaskedLMPreprocessor(tokenizer, sequence_length=16))
        with pytest.raises(InputError, match="Received: sequence_length=17, max_sequence_length=16"):
            TibertTextClassifier(larger, 2, TibertTextClassifierPreprocessor(tokenizer, 17))


@pytest.mark.any_backend
class TestPresets:
    @pytest.mark.parametrize("kind", ["masked_lm", "encoder", "transformers"])
    def test_every_class_from_every_preset(self, presets, converted, kind):
        folder = str(converted["huggingface"] if kind == "transformers" else presets / kind)
        length = {"encoder": 16, "transformers": 16}.get(kind, 12)
        encoder = TibertBackbone.from_preset(folder)
        for make, options in (
            (TibertMaskedLM, {}), (TibertPretraining, {}), (TibertTextClassifier, {"num_classes": 2}),
            (TibertTokenClassifier, {"labels": ["NOUN", "CONT"]}),
        ):  # fmt: skip
            model = make.from_preset(folder, **options)
            assert isinstance(model, make) and model.preprocessor.sequence_length == length
            tree.map_structure(lambda a, b: close(a, b, 0), model.backbone.get_weights(), encoder.get_weights())
        for make in (TibertMaskedLMPreprocessor, TibertTextClassifierPreprocessor):
            assert make.from_preset(folder).sequence_length == length
        assert TibertTokenizer.from_preset(folder).vocabulary_size() == 400

    def test_heads_come_along(self, presets, albert, converted, random_preset):
        inputs = ids(TEXTS, albert.preprocessor)
        # But for the epsilon of the head's normalisation.
        close(TibertMaskedLM.from_preset(str(presets / "masked_lm"))(inputs), albert(inputs), atol=1e-3)
        loaded = TibertMaskedLM.from_preset(str(converted["huggingface"]))
        close(loaded(inputs), TibertMaskedLM.from_preset(str(random_preset))(inputs))
        classifier = TibertTextClassifier.from_preset(str(presets / "classifier"))
        theirs = keras_hub.models.AlbertTextClassifier.from_preset(str(presets / "classifier"))
        assert classifier.labels == ["0", "1", "2"]
        close(classifier.predict(TEXTS, verbose=0), theirs.predict(TEXTS, verbose=0))

    def test_keras_hubs_classes_load_ours(self, presets, ours):
        models, folder = keras_hub.models, str(presets / "ours")
        inputs = ids(TEXTS, ours.preprocessor)
        for make in (models.MaskedLM, models.AlbertMaskedLM):
            model = make.from_preset(folder)
            assert type(model) is TibertMaskedLM
            close(model(inputs), ours(inputs))
        for make in (models.TextClassifier, models.AlbertTextClassifier):
            model = make.from_preset(folder, num_classes=2)
            assert type(model) is TibertTextClassifier and model.preprocessor.sequence_length == 12
        for make, kind in (
            (models.MaskedLMPreprocessor, TibertMaskedLMPreprocessor),
            (models.AlbertMaskedLMPreprocessor, TibertMaskedLMPreprocessor),
            (models.TextClassifierPreprocessor, TibertTextClassifierPreprocessor),
            (models.AlbertBackbone, TibertBackbone),
            (models.AlbertTokenizer, TibertTokenizer),
        ):
            assert type(make.from_preset(folder)) is kind

    def test_a_classifier_with_another_number_of_classes(self, ours, tmp_path):
        preprocessor = TibertTextClassifierPreprocessor(ours.preprocessor.tokenizer, 12, labels=["a", "b"])
        TibertTextClassifier(ours.backbone, labels=["a", "b"], preprocessor=preprocessor).save_to_preset(str(tmp_path))
        model = keras_hub.models.TextClassifier.from_preset(str(tmp_path), num_classes=3)
        assert model.labels == model.preprocessor.labels == ["0", "1", "2"]

    def test_a_handle(self, converted, monkeypatch):
        """What stands behind `hf://` is downloaded file by file."""
        import huggingface_hub
        from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

        def download(repo_id, filename):
            if repo_id == "no/network":
                raise LocalEntryNotFoundError("The Hub is not reached.")
            assert repo_id == "somebody/model"
            path = converted["huggingface"] / filename
            if not path.exists():
                raise EntryNotFoundError(filename)
            return str(path)

        def metadata(url, timeout):
            if "no/connection" in url:
                raise ConnectionError("Name or service not known")
            if "somebody" in url:
                raise HfHubHTTPError("404", response=None)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        model = TibertMaskedLM.from_preset("hf://somebody/model")
        expected = TibertMaskedLM.from_preset(str(converted["huggingface"]))
        tree.map_structure(lambda a, b: close(a, b, atol=0), model.get_weights(), expected.get_weights())
        read = read_any("hf://somebody/model").weights
        assert {path for path, array in read_any(str(converted["huggingface"])).weights.items()
                if np.array_equal(read[path], array)} == read.keys()  # fmt: skip
        filled = tibert_keras.fill_mask("བཀྲ་[MASK]", model="hf://somebody/model")
        assert filled == tibert_keras.fill_mask("བཀྲ་[MASK]", model=expected)
        with pytest.raises(InputError, match="The Hub is not reached. Received: preset='hf://no/network'. Check"):
            TibertMaskedLM.from_preset("hf://no/network")
        with pytest.raises(InputError, match=r"no connection to the Hub \(Name or service not known\). Received: "):
            TibertMaskedLM.from_preset("hf://no/connection")

    def test_names(self):
        published = {"tibert_xlarge": (24, 16, 2048, 8192), "tibert_xxlarge": (12, 64, 4096, 16384)}
        for name, sizes in published.items():
            config = TibertBackbone.presets[name]["config"]
            keys = ("num_layers", "num_heads", "hidden_dim", "intermediate_dim")
            assert tuple(config[key] for key in keys) == sizes
        for make in (keras_hub.models.MaskedLM, keras_hub.models.TextClassifier, keras_hub.models.Backbone):
            assert make.presets.keys() >= TibertBackbone.presets.keys()
        model = keras_hub.models.MaskedLM.from_preset("tibert_nano", vocabulary_size=50)
        assert type(model) is TibertMaskedLM
        assert type(keras_hub.models.Backbone.from_preset("tibert_nano", vocabulary_size=50)) is TibertBackbone
        with pytest.raises(InputError, match="no tokenizer. Received: preset='tibert_nano'"):
            TibertTokenizer.from_preset("tibert_nano")


def test_subclasses_load_the_presets_of_their_bases(presets, ours, tmp_path, caplog):
    bases = (TibertMaskedLM, TibertTextClassifier, TibertBackbone, TibertTokenizer)
    own_masked_lm, own_classifier, own_backbone, own_tokenizer = (type("Own", (base,), {}) for base in bases)
    for cls in (own_backbone, own_tokenizer, TibertBackbone, TibertTokenizer):
        assert type(cls.from_preset(str(presets / "ours"))) is cls
    inputs = ids(TEXTS, ours.preprocessor)
    close(own_masked_lm.from_preset(str(presets / "ours"))(inputs), ours(inputs))
    preprocessor = TibertTextClassifierPreprocessor(ours.preprocessor.tokenizer, 12)
    classifier = randomize(TibertTextClassifier(ours.backbone, labels=["a", "b"], preprocessor=preprocessor))
    classifier.save_to_preset(str(tmp_path))
    own = own_classifier.from_preset(str(tmp_path))
    assert own.labels == ["a", "b"] and "untrained" not in caplog.text
    close(own.predict(TEXTS, verbose=0), classifier.predict(TEXTS, verbose=0))


class TestFiles:
    def test_weights_of_each_others_files(self, albert, ours, tmp_path):
        path = tmp_path / "ours.weights.h5"
        ours.save_weights(path)
        theirs = keras_hub.models.AlbertMaskedLM(albert.backbone.from_config(albert.backbone.get_config()))
        theirs.load_weights(path)
        copy = TibertMaskedLM(ours.backbone.from_config(ours.backbone.get_config()))
        albert.save_weights(tmp_path / "theirs.weights.h5")
        copy.load_weights(tmp_path / "theirs.weights.h5")
        for one, other in ((theirs, ours), (copy, albert)):
            tree.map_structure(lambda a, b: close(a, b, atol=0), one.get_weights(), other.get_weights())

    @pytest.mark.any_backend
    def test_clones_and_int8(self, tmp_path):
        backbone = TibertBackbone(vocabulary_size=50, max_sequence_length=16, **SIZES)
        for model in (TibertTextClassifier(backbone, labels=["a", "b"]), TibertMaskedLM(backbone)):
            inputs = {name: np.ones((2, 6), "int32") for name in model.input}
            clone = keras.models.clone_model(randomize(model))
            clone.set_weights(model.get_weights())
            tree.map_structure(close, clone(inputs), model(inputs))
        # Of the masked language model, whose head shares the embeddings: it computes the same when loaded again.
        model.quantize("int8")
        expected = model(inputs)
        model.save_to_preset(str(tmp_path / "preset"))
        model.save(tmp_path / "model.keras")
        from_preset = type(model).from_preset(str(tmp_path / "preset"))
        for copy in (from_preset, keras.saving.load_model(tmp_path / "model.keras")):
            tree.map_structure(close, copy(inputs), expected)
        for cls, dtype in ((type(model), "mixed_bfloat16"), (TibertBackbone, "float32")):
            with pytest.raises(InputError, match=f"quantized model keeps its precision.* Received: dtype='{dtype}', "):
                cls.from_preset(str(tmp_path / "preset"), dtype=dtype)
        TibertBackbone.from_preset(str(tmp_path / "preset"), load_weights=False, dtype="float32")

    @pytest.mark.any_backend
    def test_int8_and_lora(self, ours, tmp_path):
        """Trained before, the additions are quantized too; trained after, a file rounds them."""
        model = TibertMaskedLM(TibertBackbone.from_config(ours.backbone.get_config()), ours.preprocessor)
        model.set_weights(ours.get_weights())
        inputs, labels, weights = TibertMaskedLMPreprocessor(ours.preprocessor.tokenizer, 12)(TEXTS)

        def fit():
            model.compile(keras.optimizers.Adam(0.1), **EAGERLY)
            model.fit(inputs, labels, sample_weight=weights, verbose=0)

        model.backbone.enable_lora(2)
        fit()
        trained = ops.convert_to_numpy(model(inputs))
        model.quantize("int8")
        close(model(inputs), trained, atol=0.2)
        model.save_to_preset(str(tmp_path / "quantized"))
        close(TibertMaskedLM.from_preset(str(tmp_path / "quantized"))(inputs), model(inputs))
        fit()
        model.save_to_preset(str(tmp_path / "again"))
        close(TibertMaskedLM.from_preset(str(tmp_path / "again"))(inputs), model(inputs), atol=0.2)

    @pytest.mark.any_backend
    def test_policies_of_layers(self, ours, tmp_path):
        """They are loaded again, unless another is given: nothing is quantized."""
        policies = keras.dtype_policies.DTypePolicyMap(default_policy="bfloat16")
        policies["embeddings_layer_norm"] = keras.dtype_policies.DTypePolicy("float32")
        config = {**ours.backbone.get_config(), "dtype": policies}
        TibertMaskedLM(TibertBackbone.from_config(config)).save_to_preset(str(tmp_path))
        for dtype, expected in ((None, ("float32", "bfloat16")), ("float32", ("float32", "float32"))):
            backbone = TibertMaskedLM.from_preset(str(tmp_path), dtype=dtype).backbone
            found = backbone.embeddings_layer_norm.gamma.dtype, backbone.token_embedding.embeddings.dtype
            assert found == expected

    @pytest.mark.any_backend
    def test_a_mixed_policy(self, ours, tmp_path):
        """KerasHub cannot read its name."""
        TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=50, dtype="mixed_bfloat16").save_to_preset(
            str(tmp_path)
        )
        for make in (keras_hub.models.MaskedLM, TibertMaskedLM, TibertPretraining):
            assert make.from_preset(str(tmp_path)).dtype_policy.name == "float32"
        # As older versions wrote it.
        config = json.loads((tmp_path / "config.json").read_text())
        config["config"]["dtype"]["config"]["name"] = "mixed_bfloat16"
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "manifest.json").unlink()
        assert TibertMaskedLM.from_preset(str(tmp_path)).dtype_policy.name == "float32"


def test_the_functions_are_at_the_top():
    assert {"fill_mask", "fill_gaps"} <= set(tibert_keras.__all__)
