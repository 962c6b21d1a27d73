"""Rate of `evaluate` with an untrained model of 2 layers of 256 units, after a call that compiles it.

    python tests/benchmarks/evaluate.py --input_file='held_out/*.tf_record' [--train]

The scores are printed too: they must not change. With `--train`, the rate of training steps on the same records, which
change the model, and the ratio of the two.
"""

import argparse
import dataclasses
import os
import statistics
import time

import keras

from tibert_keras import LAMB, TibertBackbone, TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss
from tibert_keras.records.pipeline import Records
from tibert_keras.training.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_file", required=True)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--mixed_precision", default="float32", choices=("float32", "mixed_bfloat16"))
    parser.add_argument("--train", action="store_true")
    flags = parser.parse_args()
    records = Records.find(flags.input_file)
    if records.tokenizer is None:
        parser.error("The records need their manifest and tokenizer.")
    tokenizer = TibertTokenizer(f"{os.path.dirname(records.paths[0])}/spiece.model", **records.tokenizer["options"])
    keras.utils.set_random_seed(1)
    backbone = TibertBackbone.from_preset(
        "tibert_tiny",
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=2,
        hidden_dim=256,
        dtype=flags.mixed_precision,
    )
    model = TibertMaskedLM(backbone, TibertMaskedLMPreprocessor(tokenizer, sequence_length=records.max_seq_length))
    evaluate(model, dataclasses.replace(records, paths=records.paths[:1], num_examples=flags.batch_size))
    began, used = time.perf_counter(), time.process_time()
    scores = evaluate(model, records, batch_size=flags.batch_size)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    print(", ".join(f"{name} {score:.6f}" for name, score in scores.items()))
    print(f"{records.num_examples / seconds:.1f} sequences/s of wall time")
    print(f"rate: {records.num_examples / processor:.1f} sequences per second of processor time")
    if flags.train:
        compare_with_training(model, records)


def compare_with_training(model: TibertMaskedLM, records: Records, *, rounds: int = 5) -> None:
    """Print the rates of training steps of 32 sequences and of `evaluate`, in turns, once each of them is compiled."""
    steps = records.num_examples // 32
    batches = records.training_batches(32, seed=1)
    model.compile(LAMB(0.001), MaskedLanguageModelLoss(), jit_compile=True)
    model.fit(batches, steps_per_epoch=1, verbose=0)
    training, evaluation = [], []
    for _ in range(rounds):
        began = time.process_time()
        model.fit(batches, steps_per_epoch=steps, verbose=0)
        trained = time.process_time()
        evaluate(model, records)
        training.append(steps * 32 / (trained - began))
        evaluation.append(records.num_examples / (time.process_time() - trained))
    for name, rates in ("training", training), ("evaluation", evaluation):
        shown = f"{statistics.median(rates):.1f} ({min(rates):.1f}-{max(rates):.1f})"
        print(f"{name}: {shown} sequences per second of processor time")
    print(f"{statistics.median(evaluation) / statistics.median(training):.2f} times as fast as training")


if __name__ == "__main__":
    main()
