"""What is changed in KerasHub's encoder layer, and every private attribute of Keras and KerasHub in use."""

import ast
from pathlib import Path

import keras
import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tests.support.base import EAGERLY, TestCase
from tests.support.micro_batches import PARTS, train
from tests.support.tiny_models import randomize, tiny
from tibert_keras.models.encoder_layer import flat_layers
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")


# Every private name of Keras, KerasHub and TensorFlow that the package reads or overrides: the module, and the class
# that has it. An upgrade that removes one must show here first.
PRIVATE = {
    "models/encoder_layer.py": {
        "TransformerEncoder": {
            "_feedforward_dropout",
            "_feedforward_intermediate_dense",
            "_feedforward_layer_norm",
            "_feedforward_output_dense",
            "_self_attention_dropout",
            "_self_attention_layer",
            "_self_attention_layer_norm",
        },
        "KerasTensor": {"_keras_history"},
        "EinsumDense": {"_kernel"},
        "Embedding": {"_embeddings"},
        "Model": {"_flatten_layers", "_symbolic_build"},
        "AlbertTokenizer": {"_maybe_initialized_tf", "_sentence_piece"},
    },
    "models/neighbour_attention.py": {"TransformerEncoder": {"_self_attention_layer"}},
    "models/tibert_preprocessor.py": {"Preprocessor": {"_add_missing_kwargs", "_trackable_children"}},
    "models/tibert_tokenizer.py": {"AlbertTokenizer": {"_check_vocabulary", "_maybe_initialized_tf"}},
    "optimizers/lamb.py": {
        "Optimizer": {
            "_all_reduce_sum_gradients",
            "_clip_gradients",
            "_get_current_learning_rate",
            "_get_variable_index",
            "_learning_rate",
            "_trainable_variables",
            "_use_weight_decay",
        },
    },
    "optimizers/muon.py": {"Optimizer": {"_get_variable_index"}},
    "saved_model/precision.py": {"tf.Module": {"_no_dependency"}},
    "saved_model/text_module.py": {"tf.Module": {"_no_dependency"}},
}
TENSORFLOW_ONLY = {"_all_reduce_sum_gradients", "_trackable_children"}
OVERRIDDEN = {
    "models/tibert_tokenizer.py": {
        "AlbertTokenizer": {
            "_sentence_piece",
            "_sentence_piece_spm",
            "_set_proto_spm",
            "_set_proto_tf",
            "_tokenize_tf",
        },
    },
    "optimizers/lamb.py": {"Optimizer": {"_apply_weight_decay"}},
}


@pytest.mark.any_backend
class TestPrivateNames:
    @pytest.fixture(scope="class")
    @classmethod
    def objects(cls, spm_models):
        """An object of each class, without our overrides."""
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
        tokenizer = keras_nlp.models.AlbertTokenizer(Path(spm_models["bpe"]).read_bytes())
        tokenizer._maybe_initialized_tf()
        return {
            "TransformerEncoder": tiny().transformer_layers[0][0],
            "Model": model,
            "AlbertTokenizer": tokenizer,
            "Preprocessor": keras_nlp.models.AlbertMaskedLMPreprocessor(tokenizer),
            "KerasTensor": keras.Input((2,)),
            "EinsumDense": tiny().transformer_layers[0][0]._self_attention_layer.query_dense,
            "Embedding": tiny().token_embedding,
            "Optimizer": model.optimizer,
            "tf.Module": tf.Module(),
        }

    @pytest.mark.parametrize(
        "place, owner, name",
        [
            (place, owner, name)
            for places in (PRIVATE, OVERRIDDEN)
            for place, owners in places.items()
            for owner, names in owners.items()
            for name in sorted(names)
        ],
    )
    def test_still_there(self, objects, place, owner, name):
        if name in TENSORFLOW_ONLY and keras.backend.backend() != "tensorflow":
            pytest.skip("is a method of TensorFlow's classes only")
        assert hasattr(objects[owner], name), f"{owner} has no {name} any more, which {place} needs"

    def test_all_are_listed(self):
        package = Path(__file__).parents[2] / "tibert_keras"
        trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")}
        ours = set().union(*map(defined_names, trees.values()))
        for path, tree in trees.items():
            place = path.relative_to(package).as_posix()
            listed = set().union(*PRIVATE.get(place, {}).values())
            # Of named tuples and `os._exit`, which are documented.
            documented = {"_replace", "_asdict", "_exit"}
            assert private_reads(tree) - (ours - listed) - documented == listed, place


def defined_names(tree):
    """The names that a module defines, as functions, classes, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                yield name


def private_reads(tree):
    """The private attributes that a module reads of other classes: those it does not define, or reads of `super()`."""
    own, reads = set(defined_names(tree)), set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load(), value=value) if name[0] == "_" != name[1]:
                inherited = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "super"
                reads |= {name} if inherited or name not in own else set()
    return reads


class TestRematerialization(TestCase):
    @pytest.mark.parametrize("cls, parts, jit_compile", [(TibertMaskedLM, PARTS, "auto"), (TibertPretraining, 1, True)])
    def test_changes_no_number(self, cls, parts, jit_compile):
        """Not even with dropout, whose draws are the same the second time."""
        kept, again = (
            train(cls, parts, jit_compile=jit_compile, rematerialize=rematerialize, dropout=0.1)
            for rematerialize in (False, True)
        )
        self.assert_close(again[1], kept[1], atol=2e-6)
        assert [weight.path for weight in again[0].weights] == [weight.path for weight in kept[0].weights]
        self.assert_close(again[0].get_weights(), kept[0].get_weights(), atol=3e-6)
        seeds = [
            [ops.convert_to_numpy(v) for v in model.variables if v.dtype != "float32"] for model in (again[0], kept[0])
        ]
        assert len(seeds[0]) > 1
        self.assert_close(*seeds, atol=0)

    def test_in_mixed_precision(self):
        kept, again = (
            train(TibertMaskedLM, rematerialize=rematerialize, dtype="mixed_bfloat16", **EAGERLY)
            for rematerialize in (False, True)
        )
        self.assert_close(again[1], kept[1], atol=1e-3)
        assert float(again[0].optimizer.gradient_norm) == pytest.approx(
            float(kept[0].optimizer.gradient_norm), rel=0.01
        )

    def test_every_call_is_computed_again(self, monkeypatch):
        if keras.backend.backend() != "tensorflow":
            pytest.skip("JAX traces a layer once for both passes")
        calls = []
        model = TibertMaskedLM(tiny(num_layers=3))
        model.compile(rematerialize=True, run_eagerly=True)
        layer = model.backbone.transformer_layers[0][0]
        attention = layer._self_attention_layer
        monkeypatch.setattr(attention, "call", lambda *a, f=attention.call, **k: calls.append(1) or f(*a, **k))
        model.train_on_batch(*one_batch())
        # The last layer, of which little is computed, keeps what it has.
        assert len(calls) == 2 * 2 + 1

    def test_it_is_the_step_s_affair(self, tmp_path):
        model = TibertMaskedLM(tiny())
        model.compile(rematerialize=True)
        model.optimizer.build(model.trainable_variables)
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").rematerialize
        model.save_to_preset(str(tmp_path / "preset"))
        assert not TibertMaskedLM.from_preset(str(tmp_path / "preset")).rematerialize
        layer = model.backbone.transformer_layers[0][0]
        assert "call" in vars(layer)
        model.compile()
        assert "call" not in vars(layer)


def one_batch():
    ids = np.ones((2, 4), "int32")
    features = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": ids, "mask_positions": ids[:, :1]}
    return features, ids[:, :1]


def features(**more):
    rng = np.random.default_rng(0)
    mask = np.arange(9) < np.array([9, 4, 0])[:, None]
    return {
        "token_ids": rng.integers(5, 20, (3, 9)) * mask,
        "segment_ids": rng.integers(0, 2, (3, 9)),
        "padding_mask": mask.astype("int32"),
        **more,
    }


@tensorflow_only
class TestFlatLayers:
    """The layers of SavedModels give what KerasHub's give."""

    @pytest.mark.parametrize(
        "options", [{}, {"num_groups": 2, "num_inner_repetitions": 2}, {"num_heads": 1}, {"num_heads": 3}]
    )
    def test_same_as_keras(self, options):
        model = randomize(TibertTokenClassifier(tiny(**options), labels=["a", "b"]))
        expected = model.backbone(features())
        logits = model(features())
        with flat_layers(model.backbone):
            for name, values in model.backbone(features()).items():
                # Padding as well, of which nobody makes use.
                np.testing.assert_allclose(values, expected[name], atol=2e-6, err_msg=name)
            np.testing.assert_allclose(model(features()), logits, atol=2e-6)

    def test_no_texts_and_bfloat16(self):
        model = randomize(TibertTokenClassifier(tiny(dtype="mixed_bfloat16"), labels=["a", "b"]))
        with flat_layers(model.backbone):
            assert model({name: values[:0] for name, values in features().items()}).shape == (0, 9, 2)
            logits = keras.ops.cast(model(features()), "float32")
        np.testing.assert_allclose(logits, keras.ops.cast(model(features()), "float32"), atol=0.02)

    def test_no_sums_over_named_axes(self):
        """It is what makes it faster: and it shows that the layers are in use."""
        model = tiny()

        def ops():
            graph = tf.function(lambda: model(features())).get_concrete_function().graph
            return {operation.type for operation in graph.get_operations()}

        with flat_layers(model):
            assert "Einsum" not in ops()
        assert "Einsum" in ops()

    def test_quantized_layers_stay(self):
        model = randomize(TibertTokenClassifier(tiny(num_layers=1), labels=["a", "b"]))
        model.quantize("int8")
        expected = model(features())
        with flat_layers(model.backbone):
            np.testing.assert_array_equal(model(features()), expected)

    def test_at_some_positions(self):
        model = randomize(TibertMaskedLM(tiny()))
        x = features(mask_positions=np.array([[8, 3], [1, 0], [0, 0]]))
        expected = model(x)
        with flat_layers(model.backbone):
            np.testing.assert_allclose(model(x), expected, atol=2e-6)

    def test_lora(self):
        model = TibertTokenClassifier(tiny(), labels=["a", "b"])
        model.backbone.enable_lora(2)
        randomize(model)
        expected = model(features())
        with flat_layers(model.backbone):
            np.testing.assert_allclose(model(features()), expected, atol=2e-6)

    def test_layers_are_as_they_were_afterwards(self):
        model = TibertMaskedLM(tiny())
        model.compile(rematerialize=True)
        (layer,) = (layer for group in model.backbone.transformer_layers for layer in group)
        own = vars(layer)["call"]
        with pytest.raises(ZeroDivisionError), flat_layers(model.backbone):
            assert vars(layer)["call"] is not own
            raise ZeroDivisionError
        assert vars(layer)["call"] is own
        model.compile(rematerialize=False)
        with flat_layers(model.backbone):
            pass
        assert "call" not in vars(layer)
