"""Rate of `evaluate` with an untrained model of 2 layers of 256 units, after a call that compiles it.

    python tests/benchmarks/evaluate.py --input_file='held_out/*.tf_record'

The scores are printed too: they must not change.
"""

import argparse
import dataclasses
import os
import time

import keras

from tibert_keras import TibertBackbone, TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.records.pipeline import Records
from tibert_keras.training.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_file", required=True)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--mixed_precision", default="float32", choices=("float32", "mixed_bfloat16"))
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


if __name__ == "__main__":
    main()
