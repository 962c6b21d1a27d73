"""What `train_step.py` measures: our model and its two peers, each in a process of its own.

Nothing but the standard library is imported up here: a process starts with its parent's peak of memory as its own, and
a variant is to import only what it needs.
"""

import importlib.metadata
import importlib.util
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

PACKAGES = ("tensorflow", "jax", "keras", "keras-hub", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What takes a step, and how, and the sizes that all have in common."""

    model: str
    backend: str
    precision: str
    jit_compile: bool
    architecture: dict[str, int]
    vocabulary_size: int
    batch_size: int
    sequence_length: int
    predictions: int
    steps: int
    threads: int
    gradient_accumulation_steps: int
    rematerialize: bool

    @property
    def name(self) -> str:
        return f"{self.model}, {self.backend}, {self.precision}, jit_compile={self.jit_compile}"


def random_batch(variant: Variant) -> tuple[dict[str, Any], Any, Any]:
    """Features, labels and weights of one batch, as the records' pipeline gives them."""
    import numpy as np

    rng = np.random.default_rng(1)
    shape, slots = (variant.batch_size, variant.sequence_length), (variant.batch_size, variant.predictions)
    positions = np.argsort(rng.random((variant.batch_size, variant.sequence_length - 2)))[:, : variant.predictions] + 1
    features = {
        "token_ids": rng.integers(5, variant.vocabulary_size, shape, "int32"),
        "segment_ids": np.zeros(shape, "int32"),
        "padding_mask": np.ones(shape, "int32"),
        "mask_positions": np.sort(positions).astype("int32"),
    }
    return features, rng.integers(5, variant.vocabulary_size, slots, "int32"), np.ones(slots, "float32")


def tibert_model(variant: Variant) -> Any:
    """Our model, compiled as `pretrain` does it."""
    import keras

    from tibert_keras.models.tibert_backbone import TibertBackbone
    from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
    from tibert_keras.optimizers.lamb import LAMB
    from tibert_keras.optimizers.losses import MaskedLanguageModelLoss
    from tibert_keras.optimizers.schedules import WarmupPolynomialDecay

    sizes: dict[str, Any] = {**variant.architecture, "vocabulary_size": variant.vocabulary_size}
    model = TibertMaskedLM(TibertBackbone(**sizes, dtype=variant.precision))
    model.compile(
        optimizer=LAMB(WarmupPolynomialDecay(0.00176, decay_steps=1_000_000, warmup_steps=3125)),
        loss=MaskedLanguageModelLoss(),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="masked_lm_accuracy")],
        jit_compile=variant.jit_compile,
        gradient_accumulation_steps=variant.gradient_accumulation_steps,
        rematerialize=variant.rematerialize,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def kerashub_model(variant: Variant) -> Any:
    """KerasHub's own, as its `compile` sets it up, but for the optimizer."""
    import keras
    import keras_nlp

    sizes = {**variant.architecture, "vocabulary_size": variant.vocabulary_size}
    model = keras_nlp.models.AlbertMaskedLM(keras_nlp.models.AlbertBackbone(**sizes, dtype=variant.precision))
    # In bfloat16 the head adds a bias of float32 to its logits, which TensorFlow refuses: the only change made here.
    model.masked_lm_head.autocast = True
    model.compile(
        optimizer=keras.optimizers.Lamb(0.00176, weight_decay=0.01, global_clipnorm=1.0),
        jit_compile=variant.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def keras_stepper(variant: Variant) -> Callable[[], float]:
    """What takes the steps with `fit()` and returns the seconds, without those in which `fit()` sets itself up."""
    if variant.backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(variant.threads)
        tf.config.threading.set_inter_op_parallelism_threads(variant.threads)
    import keras

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            # The logs are numbers by now, so that nothing is left to be computed.
            self.seconds = time.perf_counter() - self.began

    model = {"tibert": tibert_model, "kerashub": kerashub_model}[variant.model](variant)
    watch = Watch()

    def take_steps() -> float:
        # KerasHub's `fit` would look for texts to preprocess in the batches first, and only takes `tf.data`.
        keras.Model.fit(
            model, endless(variant), steps_per_epoch=variant.steps, verbose=0, shuffle=False, callbacks=[watch]
        )
        return watch.seconds

    return take_steps


def endless(variant: Variant) -> Any:
    """The batch again and again, of static shapes: through `tf.data` on TensorFlow, where else they are not."""
    batch = random_batch(variant)
    if variant.backend == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors(batch).repeat().prefetch(1)

    def batches() -> Iterator[Any]:
        yield from itertools.repeat(batch)

    return batches()


def torch_stepper(variant: Variant) -> Callable[[], float]:
    """What takes the steps in PyTorch and returns the seconds."""
    import torch
    from transformers import AlbertConfig, AlbertForMaskedLM

    torch.set_num_threads(variant.threads)
    # As TensorFlow and JAX compute in float32 on a GPU.
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = {
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "embedding_dim": "embedding_size",
        "hidden_dim": "hidden_size",
        "intermediate_dim": "intermediate_size",
        "max_sequence_length": "max_position_embeddings",
    }
    sizes = {names[name]: size for name, size in variant.architecture.items()}
    model = AlbertForMaskedLM(AlbertConfig(vocab_size=variant.vocabulary_size, **sizes)).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.00176, weight_decay=0.01)
    forward = torch.compile(model) if variant.jit_compile else model
    batch = {name: torch.as_tensor(value).to(device) for name, value in torch_batch(variant).items()}
    mixed = variant.precision == "mixed_bfloat16"

    def take_steps() -> float:
        began = time.perf_counter()
        for _ in range(variant.steps):
            with torch.autocast(device, dtype=torch.bfloat16, enabled=mixed):
                loss = forward(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    return take_steps


def torch_batch(variant: Variant) -> dict[str, Any]:
    """The batch as transformers takes it: a label for each position, -100 where nothing is to be predicted."""
    import numpy as np

    features, targets, _ = random_batch(variant)
    labels = np.full(features["token_ids"].shape, -100, "int64")
    np.put_along_axis(labels, features["mask_positions"].astype("int64"), targets.astype("int64"), axis=1)
    return {
        "input_ids": features["token_ids"].astype("int64"),
        "attention_mask": features["padding_mask"].astype("int64"),
        "token_type_ids": features["segment_ids"].astype("int64"),
        "labels": labels,
    }


def resident_peak() -> float:
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def device_peak(backend: str) -> float | None:
    """Peak memory on the GPU in MB, or None without one."""
    if backend == "jax":
        import jax

        statistics_of_device = jax.local_devices()[0].memory_stats()
        return statistics_of_device["peak_bytes_in_use"] / 2**20 if statistics_of_device else None
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_logical_devices("GPU")
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20 if gpus else None
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None


def import_all(variant: Variant) -> None:
    """Import what the variant takes, so that what is resident then is not counted as the model's."""
    if variant.model == "transformers":
        import torch  # noqa: F401 (transformers comes without it too)
        import transformers  # noqa: F401
    elif variant.model == "kerashub":
        import keras_nlp  # noqa: F401
    else:
        import tibert_keras.models.tibert_masked_lm
        import tibert_keras.optimizers.lamb  # noqa: F401


def work(variant: Variant) -> None:
    """Take a turn for each line on standard input, and answer with a line of JSON on standard output."""
    # Whatever the frameworks print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    # XLA makes as many threads as there are cores it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: variant.threads])
    try:
        import_all(variant)
        imports = resident_peak()
        take_steps = torch_stepper(variant) if variant.model == "transformers" else keras_stepper(variant)
        # The first turn compiles; the second finds out whether something would be compiled again.
        warm_up = [take_steps() for _ in range(2)]
        versions = {name: version for name in PACKAGES if (version := installed_version(name))}
        answer(warm_up=warm_up, imports=imports, versions=versions)
        for _ in sys.stdin:
            began = time.process_time()
            seconds = take_steps()
            processor = time.process_time() - began
            answer(seconds=seconds, processor=processor, resident=resident_peak(), device=device_peak(variant.backend))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        answer(**{"missing" if isinstance(error, ImportError) else "failed": reason})


def installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    work(Variant(**json.loads(sys.argv[1])))
