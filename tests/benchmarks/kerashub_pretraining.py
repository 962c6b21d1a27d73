"""Trains KerasHub's `AlbertMaskedLM` on records, to compare it with `tibert pretrain`.

    python tests/benchmarks/kerashub_pretraining.py --input_file='records/train_*.tf_record' \
        --albert_config_file=albert_config.json --spm_model_file=tokenizer/spiece.model --output_dir=hub
    tibert evaluate --model=hub --input_file='held_out/validation_*.tf_record'

Model and loss are KerasHub's, the optimizers Keras's. The rate rises during a tenth of the steps and then falls to 0
along a cosine. The weights are stored in a preset of `TibertMaskedLM`, the same model, for `tibert evaluate`. Steps are
taken in bfloat16 without XLA, which is faster than in float32 with XLA on processors with AVX512-BF16.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import keras_nlp
import numpy as np

from tibert_keras import TibertBackbone, TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.records.pipeline import Records


class Clock(keras.callbacks.Callback):
    """Prints loss, accuracy and processor time now and then."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if not batch:
            self.began = time.process_time()
        elif (batch + 1) % 100 == 0:
            seconds = time.process_time() - self.began
            print(f"step {batch + 1}, {seconds:.0f} s of processor time, {logs}", flush=True)
            self.model.reset_metrics()


def make_optimizer(name: str, rate: float, steps: int) -> keras.optimizers.Optimizer:
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=steps - steps // 10, warmup_target=rate, warmup_steps=steps // 10
    )
    if name == "muon":
        return keras.optimizers.Muon(schedule, weight_decay=0.01, adam_weight_decay=0.01, global_clipnorm=1.0)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("input_file", "albert_config_file", "spm_model_file", "output_dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=32)
    flags = parser.parse_args()

    keras.utils.set_random_seed(1)
    records = Records.find(flags.input_file)
    ours = TibertBackbone.from_albert_config(json.loads(Path(flags.albert_config_file).read_text()))
    names = ("vocabulary_size", "num_layers", "num_heads", "embedding_dim", "hidden_dim", "intermediate_dim")
    shape = {name: ours.get_config()[name] for name in (*names, "num_groups", "max_sequence_length", "num_segments")}
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras_nlp.models.AlbertMaskedLM(keras_nlp.models.AlbertBackbone(**shape))
    model.compile(
        optimizer=make_optimizer(flags.optimizer, flags.learning_rate, flags.steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    batches, clock = records.training_batches(flags.batch_size, seed=1), Clock()
    model.fit(batches, steps_per_epoch=flags.steps, shuffle=False, callbacks=[clock], verbose=0)
    seconds = time.process_time() - clock.began

    keras.config.set_dtype_policy("float32")
    tokenizer = TibertTokenizer(flags.spm_model_file)
    preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=records.max_seq_length)
    stored = TibertMaskedLM(TibertBackbone(**shape), preprocessor=preprocessor)
    stored.set_weights(model.get_weights())
    x, *_ = next(records.numpy_batches(8))
    difference = np.abs(stored.predict_on_batch(x) - np.asarray(model.predict_on_batch(x), "float32")).mean()
    stored.save_to_preset(flags.output_dir)
    print(f"{model.count_params():,} parameters, mean difference of logits between the two models {difference:.4f}")
    print(f"{flags.steps} steps of {flags.batch_size}, {seconds:.0f} s of processor time")


if __name__ == "__main__":
    main()
