"""The whole train step as TPUs need it: one program of XLA, of static shapes, with nothing that runs elsewhere."""

import keras
import pytest

from tibert_keras.models.encoder_layer import build_training_variables
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
from tibert_keras.records.pipeline import Records

METRIC = "masked_lm_accuracy"


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX compiles with XLA anyway")
@pytest.mark.parametrize("model_class, dtype", [(TibertPretraining, "float32"), (TibertMaskedLM, "mixed_bfloat16")])
def test_a_train_step(sample_records, model_class, dtype):
    import tensorflow as tf

    sop = model_class is TibertPretraining
    batches = Records.find(f"{sample_records}/train/*.tf_record").training_batches(8, seed=1, sop=sop)
    assert all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(batches.element_spec))

    keras.utils.set_random_seed(0)
    metric = keras.metrics.SparseCategoricalAccuracy(name=METRIC)
    model = model_class(TibertBackbone.from_preset("tibert_nano", vocabulary_size=400, num_layers=1, dtype=dtype))
    # `TibertPretraining` brings its losses and metrics with it.
    options = {} if sop else {"loss": MaskedLanguageModelLoss(), "weighted_metrics": [metric]}
    model.compile(LAMB(WarmupPolynomialDecay(0.01, 20, 3)), jit_compile=False, **options)
    model.optimizer.build(model.trainable_variables)
    build_training_variables(model, batches.element_spec)

    step = tf.function(model.train_step, jit_compile=True, input_signature=[batches.element_spec])
    batch = next(iter(batches))
    # What XLA cannot compile raises here.
    program = step.experimental_get_compiler_ir(batch)(stage="hlo")
    assert not [word for word in ("infeed", "outfeed", "host", "Callback", "callback", "[<=") if word in program]
    operations = {operation.type for operation in step.get_concrete_function().graph.get_operations()}
    assert not {name for name in operations if "PyFunc" in name or "Iterator" in name or "Print" in name}
    logs = [step(batch) for _ in range(5)]
    assert float(model.optimizer.gradient_norm) > 1.0 and int(model.optimizer.iterations) == 5
    assert {"loss", METRIC} <= logs[-1].keys() and float(logs[-1]["loss"]) < float(logs[0]["loss"])
