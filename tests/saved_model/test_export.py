"""The SavedModel: its signatures, and that it answers without our code as the Keras model does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.support.saved_models import assert_stock_ops, stock_ops
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.presets import load_model
from tibert_keras.saved_model.export import SavedModelOfBest, export_saved_model
from tibert_keras.saved_model.fill_mask import FillMask
from tibert_keras.saved_model.precision import compare_precision
from tibert_keras.saved_model.versions import WARM_UP_FILE, find_saved_model
from tibert_keras.training.evaluate import evaluate

SERVE = Path(__file__).parents[1] / "support/serve.py"
# Two masks, none, and one.
TEXTS = ["སངས་རྒྱས་[MASK]བཅོམ་ལྡན་འདས་[MASK]། །", "བཀྲ་ཤིས།", "[MASK]"]

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="says what another backend cannot do")
def test_another_backend(finished_run, tmp_path):
    for export in (lambda: export_saved_model(finished_run, tmp_path / "out"), lambda: SavedModelOfBest(finished_run)):
        with pytest.raises(InputError, match="Received: KERAS_BACKEND=jax"):
            export()
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def model(finished_run) -> Any:
    return TibertMaskedLM.from_preset(f"{finished_run}/champion")


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    """Over an older one."""
    folder = tmp_path_factory.mktemp("export") / "saved_model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"old")
    (folder / "variables/old").write_bytes(b"old")
    export_saved_model(model, folder, top_k=3)
    return folder


def features(model: TibertMaskedLM, text: str) -> dict[str, np.ndarray]:
    """The inputs of the model for one text with masks, put together by hand."""
    tokenizer = model.preprocessor.tokenizer
    ids = [tokenizer.cls_token_id, *tokenizer.encode([text])[0], tokenizer.sep_token_id]
    token_ids = np.array([ids], "int32")
    return {
        "token_ids": token_ids,
        "padding_mask": np.ones_like(token_ids),
        "segment_ids": np.zeros_like(token_ids),
        "mask_positions": np.flatnonzero(token_ids == tokenizer.mask_token_id).astype("int32")[None],
    }


@tensorflow_only
class TestSignatures:
    def test_names_and_shapes(self, exported):
        signatures = tf.saved_model.load(str(exported)).signatures
        inputs = {name: s.structured_input_signature[1] for name, s in signatures.items()}
        assert {name: set(given) for name, given in inputs.items()} == {
            "serving_default": {"text"},
            "encode": {"text"},
            "masked_lm": {"token_ids", "padding_mask", "segment_ids", "mask_positions"},
            "tokenize": {"text"},
        }
        assert inputs["serving_default"]["text"].dtype == tf.string
        outputs = {name: s.structured_outputs for name, s in signatures.items()}
        assert {name: {key: spec.dtype.name for key, spec in given.items()} for name, given in outputs.items()} == {
            "serving_default": {"pieces": "string", "probabilities": "float32", "mask_count": "int32"},
            "encode": {"sequence_output": "float32", "pooled_output": "float32", "padding_mask": "int32"},
            "masked_lm": {"logits": "float32"},
            "tokenize": {"token_ids": "int32", "padding_mask": "int32"},
        }

    @pytest.mark.slow
    def test_without_our_code(self, model, exported, tmp_path):
        """A process that imports nothing but TensorFlow and tensorflow_text gives the Keras model's answers."""
        x = features(model, TEXTS[0])
        np.savez(tmp_path / "ids.npz", **x)
        command = [sys.executable, SERVE, exported, json.dumps(TEXTS), tmp_path / "ids.npz", tmp_path / "answers.npz"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        answers = np.load(tmp_path / "answers.npz")
        assert list(answers["foreign"]) == [] and "serving_default" in answers["signatures"]

        logits = model(x)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
        ids = np.argsort(-probabilities, axis=-1, kind="stable")[:, :3]
        assert answers["fill_mask/mask_count"].tolist() == [2, 0, 1]
        pieces = [[piece.decode() for piece in mask] for mask in answers["fill_mask/pieces"][0]]
        assert pieces == [[model.preprocessor.tokenizer.id_to_token(int(i)) for i in mask] for mask in ids]
        np.testing.assert_allclose(
            answers["fill_mask/probabilities"][0], np.take_along_axis(probabilities, ids, -1), atol=1e-5
        )
        np.testing.assert_allclose(answers["masked_lm/logits"], logits, atol=1e-5)
        encoded = model.backbone({name: value for name, value in x.items() if name != "mask_positions"})
        length = x["token_ids"].shape[1]
        assert answers["encode/padding_mask"].sum(1).tolist()[0] == length
        np.testing.assert_allclose(
            answers["encode/sequence_output"][0, :length], encoded["sequence_output"][0], atol=1e-5
        )
        np.testing.assert_allclose(answers["encode/pooled_output"][0], encoded["pooled_output"][0], atol=1e-5)


@tensorflow_only
class TestIds:
    """What `masked_lm` refuses before it computes: a short request could ask for all the memory there is."""

    @pytest.fixture(scope="class")
    @classmethod
    def masked_lm(cls, exported) -> Any:
        return tf.saved_model.load(str(exported)).signatures["masked_lm"]

    def ids(self, **changes: Any) -> dict[str, tf.Tensor]:
        given = {
            "token_ids": np.full((2, 4), 9), "padding_mask": np.ones((2, 4)), "segment_ids": np.zeros((2, 4)),
            "mask_positions": np.zeros((2, 4)),
        }  # fmt: skip
        return {name: tf.constant(value, tf.int32) for name, value in {**given, **changes}.items()}

    def test_as_many_positions_as_tokens(self, masked_lm):
        assert masked_lm(**self.ids())["logits"].shape == (2, 4, 400)
        assert masked_lm(**self.ids(mask_positions=np.zeros((2, 0))))["logits"].shape == (2, 0, 400)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mask_positions": np.zeros((2, 5))}, "There are more mask_positions than token_ids"),
            # 16 GB of logits.
            ({"mask_positions": np.zeros((2, 5_000_000), "int8")}, "There are more mask_positions than token_ids"),
            ({"mask_positions": [[0], [4]]}, "mask_positions must be places in token_ids"),
            ({"mask_positions": [[-1], [0]]}, "mask_positions must be places in token_ids"),
            ({"token_ids": np.full((2, 4), 400)}, "token_ids must be from 0 to 399"),
            ({"token_ids": np.full((2, 4), -1)}, "token_ids must be from 0 to 399"),
            ({"segment_ids": np.full((2, 4), 2)}, "segment_ids must be from 0 to 1"),
            ({"segment_ids": np.full((2, 4), -1)}, "segment_ids must be from 0 to 1"),
            ({"padding_mask": np.full((2, 4), 2)}, "padding_mask must be from 0 to 1"),
            ({"padding_mask": np.full((2, 4), -1)}, "padding_mask must be from 0 to 1"),
            ({"padding_mask": np.ones((2, 1))}, "padding_mask must have the shape of token_ids"),
            ({"segment_ids": np.zeros((1, 4))}, "segment_ids must have the shape of token_ids"),
            (
                dict.fromkeys(["token_ids", "padding_mask", "segment_ids"], np.ones((2, 513))),
                "A row has more than 512 tokens",
            ),
        ],
    )
    def test_refused(self, masked_lm, changes, message):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            masked_lm(**self.ids(**changes))


@tensorflow_only
class TestFillMask:
    @pytest.fixture(scope="class")
    @classmethod
    def fill(cls, model) -> FillMask:
        return FillMask(model, top_k=3)

    def test_masks_of_different_numbers(self, fill):
        answer = {name: tensor.numpy() for name, tensor in fill.fill_mask(tf.constant(TEXTS)).items()}
        assert answer["mask_count"].tolist() == [2, 0, 1]
        assert answer["pieces"].shape == answer["probabilities"].shape == (3, 2, 3)
        real = np.array([[1, 1], [0, 0], [1, 0]], bool)
        assert (answer["pieces"][real] != b"").all() and (answer["pieces"][~real] == b"").all()
        assert (answer["probabilities"][~real] == 0).all()
        assert (np.diff(answer["probabilities"][real]) <= 0).all()

    def test_no_masks_at_all(self, fill):
        answer = fill.fill_mask(tf.constant(["བཀྲ་ཤིས།", ""]))
        assert answer["mask_count"].numpy().tolist() == [0, 0]
        assert answer["pieces"].shape == (2, 0, 3)

    def test_the_rest_of_the_batch_does_not_matter(self, fill):
        alone, among = (fill.fill_mask(tf.constant(texts))["probabilities"] for texts in (TEXTS[2:], TEXTS))
        np.testing.assert_allclose(among[2, 0], alone[0, 0], atol=1e-5)

    def test_all_pieces(self, model):
        fill = FillMask(model, top_k=10_000)
        answer = fill.fill_mask(tf.constant(TEXTS[2:]))
        assert answer["pieces"].shape == (1, 1, 400)
        assert float(tf.reduce_sum(answer["probabilities"])) == pytest.approx(1, abs=1e-5)

    def test_a_text_that_is_too_long(self, fill):
        limit = 32 - 2
        assert fill.fill_mask(tf.constant(["[MASK]" * limit]))["mask_count"].numpy() == [limit]
        with pytest.raises(tf.errors.InvalidArgumentError, match="A text is longer than 32 tokens"):
            fill.fill_mask(tf.constant(["[MASK]" * (limit + 1)]))

    def test_bad_arguments(self, model):
        with pytest.raises(InputError, match="Received: top_k=0"):
            FillMask(model, top_k=0)
        with pytest.raises(InputError, match="has no tokenizer"):
            FillMask(TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=9))

    def test_bfloat16(self, finished_run, fill):
        mixed = FillMask(TibertMaskedLM.from_preset(f"{finished_run}/champion", dtype="mixed_bfloat16"), top_k=3)
        answer = mixed.fill_mask(tf.constant(TEXTS))
        assert answer["probabilities"].dtype == tf.float32
        np.testing.assert_allclose(
            answer["probabilities"], fill.fill_mask(tf.constant(TEXTS))["probabilities"], atol=0.01
        )


@tensorflow_only
class TestStockServing:
    """What TensorFlow Serving, as it is released, needs of a SavedModel."""

    def test_the_list(self):
        """TensorFlow's own ops that need no Python, and two of TensorFlow Text."""
        allowed = stock_ops()
        assert {op for op in allowed if not hasattr(tf.raw_ops, op)} == {"SentencepieceOp", "SentencepieceTokenizeOp"}
        assert not [op for op in allowed if "Py" in op or op.startswith("Xla")]

    def test_ops(self, exported, model, tmp_path):
        """Of running text, and cut at tshegs; `test_what_it_costs_is_measured` sees to another precision."""
        assert_stock_ops(exported)
        tokenizer = TibertTokenizer(model.preprocessor.tokenizer.proto, tsheg_pretokenization=True)
        preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=32)
        cut = TibertMaskedLM(model.backbone, preprocessor)
        export_saved_model(cut, tmp_path / "cut", precision="bfloat16")
        assert_stock_ops(tmp_path / "cut")

    def test_the_tokenizer_is_in_assets(self, model, exported):
        assert (exported / "assets/spiece.model").read_bytes() == model.preprocessor.tokenizer.proto

    def test_warm_up_requests_are_answered(self, exported):
        signatures = tf.saved_model.load(str(exported)).signatures
        sizes = []
        for record in tf.data.TFRecordDataset(str(exported / WARM_UP_FILE)):
            request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
            inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
            answer = signatures[request.model_spec.signature_name](**inputs)
            sizes.append((request.model_spec.signature_name, len(next(iter(answer.values())))))
        assert sizes == [(name, size) for name in ("serving_default", "encode", "tokenize") for size in (1, 8)]

    def test_any_batch_and_length(self, model, exported):
        signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
        keras_model = FillMask(model, top_k=3)
        for texts in (TEXTS[:1], TEXTS * 9, ["[MASK]" * 30, "ཀ"], ["[MASK]" + "བཀྲ་ཤིས།" * 3] * 2):
            served, expected = signature(tf.constant(texts)), keras_model.fill_mask(tf.constant(texts))
            assert (served["pieces"].numpy() == expected["pieces"].numpy()).all()
            np.testing.assert_allclose(served["probabilities"], expected["probabilities"], atol=1e-5)


@tensorflow_only
class TestPrecision:
    @pytest.mark.parametrize(("precision", "atol"), [("bfloat16", 3e-2), ("float16", 2e-3), ("dynamic_range", 2e-2)])
    def test_nearly_the_same(self, model, precision, atol):
        compact, full = FillMask(model, precision=precision), FillMask(model)
        ids = {**full.tokenize(tf.constant(TEXTS)), "mask_positions": tf.constant([[1]] * 3)}
        ids["segment_ids"] = tf.zeros_like(ids["token_ids"])
        logits = [each.masked_lm(**ids)["logits"].numpy() for each in (compact, full)]
        assert 0 < np.abs(logits[0] - logits[1]).max() < atol * np.abs(logits[1]).max()

    def test_what_it_costs_is_measured(self, finished_run, exported, sample_records, tmp_path, capsys):
        records = f"{sample_records}/held_out/*.tf_record"
        given = ["export", f"--model={finished_run}", f"--output_dir={tmp_path}", "--versioned"]
        assert main([*given, "--precision=dynamic_range", f"--input_file={records}"]) == 0
        accuracy, loss, folder = capsys.readouterr().out.splitlines()
        full = evaluate(TibertMaskedLM.from_preset(finished_run / "champion"), Records.find(records))
        assert accuracy.startswith(f"accuracy: {full['accuracy']:.4f} in float32, ")
        assert loss.startswith(f"loss: {full['loss']:.4f} in float32, ") and " in dynamic_range, " in loss
        assert folder == f"{tmp_path}/1" and find_saved_model(tmp_path) == folder
        assert_stock_ops(tmp_path / "1")
        # The full weights are not in it besides.
        weights = "variables/variables.data-00000-of-00001"
        assert (tmp_path / "1" / weights).stat().st_size < 0.45 * (exported / weights).stat().st_size

    def test_bfloat16_is_made_once(self, finished_run, sample_records, tmp_path, monkeypatch):
        """To be measured, and to be exported."""
        made, exported = [], []

        def load(*given: Any, **options: Any) -> Any:
            made.append(load_model(*given, **options))
            return made[-1]

        def write(model: Any, _: str, **options: Any) -> None:
            exported.append(FillMask(model, precision=options["precision"]))

        monkeypatch.setattr("tibert_keras.saved_model.precision.load_model", load)
        monkeypatch.setattr("tibert_keras.saved_model.precision._figures", lambda *_: {"loss": 0.5})
        monkeypatch.setattr("tibert_keras.saved_model.export.export_saved_model", write)
        given = ["export", f"--model={finished_run}", f"--output_dir={tmp_path}", "--precision=bfloat16"]
        assert main([*given, f"--input_file={sample_records}/held_out/*.tf_record"]) == 0
        assert len(made) == len(exported) == 1 and exported[0]._model is made[0]

    def test_the_model_is_as_before(self, finished_run, sample_records):
        model = TibertMaskedLM.from_preset(finished_run / "champion")
        before = model.get_weights()
        compare_precision(model, "float16", Records.find(f"{sample_records}/held_out/*.tf_record"))
        assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))

    @pytest.mark.parametrize(
        "flags, message",
        [
            (["--precision=float16"], "Give both or neither"),
            (["--input_file=records"], "Give both or neither"),
            (["--split_file=split.tsv"], "Give input_file"),
        ],
    )
    def test_files_and_precision_go_together(self, flags, message, capsys):
        assert main(["export", "--model=m", "--output_dir=o", *flags]) == 1
        assert message in capsys.readouterr().err


@tensorflow_only
class TestExport:
    def test_an_older_one_is_replaced(self, exported):
        names = {path.name for path in exported.iterdir()}
        assert names == {"assets", "assets.extra", "fingerprint.pb", "manifest.json", "saved_model.pb", "variables"}
        assert len((exported / "saved_model.pb").read_bytes()) > 1000
        assert not (exported / "variables/old").exists() and {path.name for path in exported.parent.iterdir()} == {
            "saved_model"
        }

    def test_a_folder_of_something_else(self, finished_run):
        with pytest.raises(InputError, match="is not empty and holds no SavedModel"):
            export_saved_model(finished_run, finished_run)
        assert (finished_run / "champion").is_dir()

    def test_neither_a_preset_nor_a_run(self, tmp_path):
        with pytest.raises(InputError, match="Neither a preset nor a run"):
            export_saved_model(tmp_path / "none", tmp_path / "out")
        assert not (tmp_path / "out").exists()
