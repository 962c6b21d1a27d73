"""Pretrain in plain Keras: a strategy, LAMB, and `fit()` with callbacks that checkpoint and export.

    python examples/pretrain_in_keras.py [RUN_DIR] [--steps=300] [--tpu=NAME] [--cpu_devices=N]

Takes a minute on two cores. The same command goes on where a run was stopped. It trains on a TPU if `--tpu` or the
environment's TPU_NAME names one (`local` on a TPU VM), else on all GPUs, else on the CPU, which `--cpu_devices` splits
into several devices to try replicas. The text is the made-up sample; replace it by text of your own.
"""

import argparse
import os
import tempfile
from pathlib import Path

import keras
import tensorflow as tf
import tensorflow_text  # noqa: F401 (SavedModels that take strings need its ops)

from tibert_keras import LAMB, TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer, WarmupPolynomialDecay
from tibert_keras.callbacks import SaveCheckpoints, SavedModelOfBest
from tibert_keras.corpus.sample import write_sample
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.pipeline import Records
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

BATCH_SIZE, STEPS_PER_EPOCH = 32, 50


def choose_strategy(tpu: str | None, cpu_devices: int) -> tf.distribute.Strategy:
    """Choose where to train."""
    if tpu:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    devices = [tf.config.LogicalDeviceConfiguration()] * cpu_devices
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(cpu_devices)])


def make_records(folder: Path) -> Records:
    """Make a tokenizer and masked examples of the sample text, if they are not there yet."""
    if not (folder / "tokenizer").exists():
        write_sample(f"{folder}/text", num_documents=200)
        train_tokenizer(
            TokenizerConfig(input_file=f"{folder}/text/*.txt", output_dir=f"{folder}/tokenizer", vocab_size=800)
        )
    build_records(
        RecordsConfig(
            input_file=f"{folder}/text/*.txt",
            output_dir=f"{folder}/records",
            spm_model_file=f"{folder}/tokenizer/spiece.model",
            max_seq_length=32,
            max_predictions_per_seq=5,
            ngram=1,
            workers=1,
        )
    )
    return Records.find(f"{folder}/records/*.tf_record")


def main() -> None:
    """Make records, train, and fill a mask with the best model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", nargs="?", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tpu", default=os.environ.get("TPU_NAME"))
    parser.add_argument("--cpu_devices", type=int, default=1)
    arguments = parser.parse_args()
    run_dir, steps = arguments.run_dir, arguments.steps

    strategy = choose_strategy(arguments.tpu, arguments.cpu_devices)
    records = make_records(run_dir / "data")
    tokenizer = TibertTokenizer(f"{run_dir}/data/tokenizer/spiece.model")
    preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=32, mask_selection_length=5)

    keras.utils.set_random_seed(1)
    with strategy.scope():
        # Without a preprocessor, as the records hold ids.
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=tokenizer.vocabulary_size())
        model.compile(
            optimizer=LAMB(WarmupPolynomialDecay(0.02, decay_steps=steps, warmup_steps=steps // 10)),
            # TensorFlow cannot compile a step with XLA under a strategy; a TPU does it by itself.
            jit_compile=False,
        )
    checkpoints = SaveCheckpoints(run_dir)
    model.fit(
        records.training_batches(BATCH_SIZE, seed=1, start_step=checkpoints.step),
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=steps // STEPS_PER_EPOCH,
        callbacks=[SavedModelOfBest(run_dir, preprocessor=preprocessor, versioned=True), checkpoints],
        shuffle=False,  # the dataset does it
        verbose=2,
    )

    versions = sorted((run_dir / "saved_model").iterdir(), key=lambda folder: int(folder.name))
    fill_mask = tf.saved_model.load(str(versions[-1])).signatures["serving_default"]
    pieces = fill_mask(tf.constant(["བཅོམ་ལྡན་[MASK]ལ་ཕྱག་འཚལ་ལོ།"]))["pieces"]
    print(versions[-1], *(piece.decode() for piece in pieces.numpy().ravel()))


if __name__ == "__main__":
    main()
