"""Tables with more rows than there are pieces, and other sizes of them."""

import keras
import numpy as np
import pytest

from tests.support.tiny_models import randomize, tiny
from tibert_keras import (
    TibertMaskedLM,
    TibertMaskedLMPreprocessor,
    TibertPretraining,
    TibertTextClassifier,
    TibertTokenizer,
    resize_vocabulary,
)
from tibert_keras.errors import InputError

TABLES = {"token_embedding/embeddings", "mlm_head/output_bias"}


def weights(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


@pytest.fixture(scope="module")
def preprocessor(spm_models):
    return TibertMaskedLMPreprocessor(TibertTokenizer(spm_models["bpe"]), sequence_length=16)


@pytest.fixture(scope="module")
def larger(preprocessor):
    """A model with 450 rows for 400 pieces, of which it would predict the 50 others."""
    model = randomize(TibertMaskedLM(tiny(vocabulary_size=450), preprocessor=preprocessor))
    bias = np.where(np.arange(450) < 400, 0, 50).astype("float32")
    next(weight for weight in model.weights if weight.path == "mlm_head/output_bias").assign(bias)
    return model


class TestResizeVocabulary:
    @pytest.mark.parametrize("size", [12, 30])
    def test_rows_are_kept(self, size):
        models = [TibertMaskedLM(tiny()), TibertPretraining(tiny()), TibertTextClassifier(tiny(), labels=["a", "b"])]
        for model in [*models, tiny()]:
            before = weights(randomize(model))
            resized = resize_vocabulary(model, size)
            after = weights(resized)
            assert type(resized) is type(model) and after.keys() == before.keys()
            for path, value in after.items():
                if path in TABLES:
                    assert len(value) == size
                    value, before[path] = value[: min(size, 20)], before[path][:size]
                np.testing.assert_array_equal(value, before[path], err_msg=path)
            # The model itself has not changed.
            assert model.get_config() != resized.get_config()
            np.testing.assert_array_equal(
                weights(model)["segment_embedding/embeddings"], after["segment_embedding/embeddings"]
            )

    def test_the_same_answers(self, larger):
        resized = resize_vocabulary(larger, 400)
        x = {name: np.ones((1, 4), "int32") for name in ("token_ids", "segment_ids", "padding_mask", "mask_positions")}
        ours, theirs = (keras.ops.convert_to_numpy(model(x)) for model in (resized, larger))
        np.testing.assert_allclose(ours, theirs[..., :400], rtol=0, atol=1e-6)
        assert resized.preprocessor.tokenizer.proto == larger.preprocessor.tokenizer.proto

    def test_low_rank_additions_are_kept(self):
        """Those of embeddings too. Quantized tables keep their size."""
        model = TibertMaskedLM(tiny())
        model.backbone.enable_lora(2)
        model.backbone.token_embedding.enable_lora(2)
        x = {name: np.ones((1, 4), "int32") for name in ("token_ids", "segment_ids", "padding_mask", "mask_positions")}
        expected = randomize(model)(x)
        for copy in (resize_vocabulary(model, 20), model):
            np.testing.assert_allclose(copy(x), expected, rtol=0, atol=1e-4)
        quantized = TibertMaskedLM(tiny())
        quantized.quantize("int8")
        with pytest.raises(InputError, match="table keeps its size. Received: TibertMaskedLM, quantized"):
            resize_vocabulary(quantized, 30)

    def test_too_small_for_the_tokenizer(self, larger):
        with pytest.raises(InputError, match="needs a row. Received: vocabulary_size=399, 400 pieces"):
            resize_vocabulary(larger, 399)


class TestMoreRowsThanPieces:
    def test_from_a_name(self, preprocessor, caplog):
        caplog.set_level("INFO", "tibert_keras")
        model = TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor, vocabulary_size=450)
        assert model.backbone.vocabulary_size == 450
        assert "has 450 rows for 400 pieces: the others are never predicted." in caplog.text
        with pytest.raises(InputError, match="Received: 400 pieces in the tokenizer, vocab_size=399"):
            TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor, vocabulary_size=399)

    @pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="masks are filled with TensorFlow")
    def test_the_others_are_never_predicted(self, larger):
        import tensorflow as tf

        from tibert_keras.saved_model.fill_mask import FillMask

        fill_mask = FillMask(larger, top_k=1000)
        answer = fill_mask.fill_mask(tf.constant(["བཀྲ་ཤིས་[MASK]"]))
        assert answer["pieces"].shape == (1, 1, 400)
        np.testing.assert_allclose(np.sum(answer["probabilities"]), 1, rtol=1e-5)
        ids = np.ones((1, 4), "int32")
        assert fill_mask.masked_lm(*[tf.constant(ids)] * 4)["logits"].shape == (1, 4, 400)

    @pytest.mark.any_backend
    @pytest.mark.parametrize("to", ["google", "huggingface"])
    def test_conversion(self, larger, tmp_path, to, caplog):
        from tibert_keras.formats.convert import ConvertConfig, convert

        caplog.set_level("INFO", "tibert_keras")
        larger.save_to_preset(str(tmp_path / "ours"))
        convert(ConvertConfig(from_="keras", input=str(tmp_path / "ours"), to=to, output=str(tmp_path / "theirs")))
        convert(ConvertConfig(from_=to, input=str(tmp_path / "theirs"), to="keras", output=str(tmp_path / "again")))
        assert "has 450 rows for 400 pieces" in caplog.text
        again = TibertMaskedLM.from_preset(str(tmp_path / "again"))
        assert again.preprocessor.tokenizer.vocabulary_size() == 400
        np.testing.assert_array_equal(
            weights(again)["token_embedding/embeddings"], weights(larger)["token_embedding/embeddings"]
        )
