"""Rate and peak memory of a training step, here and with two peers, interleaved in one run.

    PYTHONPATH=. python tests/benchmarks/train_step.py --batch_size=8 --repeats=5
    PYTHONPATH=. python tests/benchmarks/train_step.py --backend=jax --jit_compile=true --precision=mixed_bfloat16 \
        --batch_size=256 --steps=20 --matrix_tflops=989          # a GPU, without TensorFlow

What takes a step: `tibert`, as `tibert pretrain` compiles it; `kerashub`, KerasHub's `AlbertMaskedLM` with Keras's
`Lamb`; `transformers`, `AlbertForMaskedLM` in PyTorch with AdamW (PyTorch has no LAMB), `torch.compile`d where the
others have `jit_compile`. All clip the gradient's global norm and decay the weights. The batches are random and full.

Each variant is a process of its own (Keras chooses its backend when it is imported) that is started, warmed up and then
kept, waiting. Turn by turn each takes `--steps` steps, A B C A B C, so that what else the machine does falls on all
alike. Variants that cannot be imported or fail are left out, and the end says so. Every process may use the same cores,
with as many threads. The peak memory is that of the process (in brackets: before there was a model), or on a GPU
that of the device.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Nothing else is imported up here: a process starts with its parent's peak of memory as its own, and a variant is to
# import only what it needs.

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


# === In the process of a variant ===


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

    from tibert_keras.models import TibertBackbone, TibertMaskedLM
    from tibert_keras.optimizers import LAMB, MaskedLanguageModelLoss, WarmupPolynomialDecay

    sizes = {**variant.architecture, "vocabulary_size": variant.vocabulary_size}
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
        without_the_rest()
        import tibert_keras.models
        import tibert_keras.optimizers  # noqa: F401


def without_the_rest() -> None:
    """Let the package's parts be imported one by one: as a whole it reads records too, which takes TensorFlow."""
    spec = importlib.util.find_spec("tibert_keras")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("No module named 'tibert_keras'")
    package = types.ModuleType("tibert_keras")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["tibert_keras"] = package


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
            answer(seconds=take_steps(), resident=resident_peak(), device=device_peak(variant.backend))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        answer(**{"missing" if isinstance(error, ImportError) else "failed": reason})


def installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# === In the process that commands them ===


@dataclass
class Worker:
    """The process of a variant, and what it measured."""

    variant: Variant
    process: subprocess.Popen[str]
    seconds: list[float] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    warm: dict[str, Any] = field(default_factory=dict)
    left_out: str | None = None

    @classmethod
    def start(cls, variant: Variant, *, verbose: bool) -> Worker:
        """Start it, and wait until it is warm."""
        surroundings = {
            "KERAS_BACKEND": variant.backend if variant.backend != "torch" else "",
            "OMP_NUM_THREADS": str(variant.threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Several share the GPU, and its peak is to be that of what is in use.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        process = subprocess.Popen(
            [sys.executable, __file__, f"--work={json.dumps(asdict(variant))}"],
            env={**os.environ, **surroundings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            text=True,
            # An interruption is for the one who commands.
            start_new_session=True,
        )
        worker = cls(variant, process)
        worker.warm = worker._read()
        return worker

    def take_turn(self) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead, and reading says how
        self.last = self._read()
        if self.left_out is None:
            self.seconds.append(self.last["seconds"])

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        values = json.loads(line) if line else {"failed": f"the process died with status {self.process.wait()}"}
        for kind in ("missing", "failed"):
            if kind in values:
                self.left_out = f"{kind}: {values[kind]}"
        return values

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def rates(self) -> list[float]:
        """Sequences a second, of each turn."""
        return [self.variant.batch_size * self.variant.steps / seconds for seconds in self.seconds]

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def architecture(preset: str) -> dict[str, int]:
    """The sizes of a preset, asked of another process: the package is far too large to import here."""
    question = f"""if True:
        import json, train_step
        train_step.without_the_rest()
        from tibert_keras.models import TibertBackbone
        print(json.dumps(TibertBackbone.presets[{preset!r}]["config"]))"""
    backend = os.environ.get("KERAS_BACKEND") or ("tensorflow" if importlib.util.find_spec("tensorflow") else "jax")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment["PYTHONPATH"] = path
    answered = subprocess.run([sys.executable, "-c", question], env=environment, capture_output=True, text=True)
    if answered.returncode:
        sys.exit(f"The preset {preset!r} cannot be had: {answered.stderr.strip().splitlines()[-1]}")
    return json.loads(answered.stdout.splitlines()[-1])


def variants(flags: argparse.Namespace) -> list[Variant]:
    """All that were asked for: the two of Keras on each backend, and PyTorch."""
    common = {
        name: getattr(flags, name)
        for name in (
            "vocabulary_size", "batch_size", "sequence_length", "predictions", "steps", "threads",
            "gradient_accumulation_steps", "rematerialize",
        )
    }  # fmt: skip
    sizes = architecture(flags.preset)
    found = []
    for precision, jit_compile, model in itertools.product(flags.precision, flags.jit_compile, flags.model):
        for backend in ["torch"] if model == "transformers" else flags.backend:
            found.append(
                Variant(
                    model=model, backend=backend, precision=precision, jit_compile=jit_compile == "true",
                    architecture=sizes, **common,
                )
            )  # fmt: skip
    return [variant for variant in found if re.search(flags.match, variant.name)]


def ratios(worker: Worker, workers: list[Worker]) -> tuple[str, str]:
    """The rate over that of KerasHub in the same setting, and of the fastest PyTorch in the same precision."""
    setting = worker.variant

    def over(model: str, *same: str) -> str:
        rates = [
            other.rate
            for other in workers
            if other.variant.model == model
            and all(getattr(other.variant, name) == getattr(setting, name) for name in ("precision", *same))
        ]
        return f"{worker.rate / max(rates):.2f}" if rates else "-"

    return over("kerashub", "backend", "jit_compile"), over("transformers")


def table(workers: list[Worker], *, matrix_tflops: float | None) -> str:
    """A table in Markdown, a variant a line."""
    header = [
        "model",
        "backend",
        "precision",
        "jit",
        "sequences/s (min-max)",
        "tokens/s",
        "s/step (min-max)",
        "peak MB",
    ]
    header += ["x KerasHub", "x PyTorch"] + ["share"] * (matrix_tflops is not None)
    lines = [header, ["---"] * 4 + ["---:"] * (len(header) - 4)]
    for worker in workers:
        variant, size = worker.variant, worker.variant.architecture
        seconds = [value / variant.steps for value in worker.seconds]
        peak = f"{worker.last['resident']:,.0f} ({worker.warm['imports']:,.0f})"
        if worker.last["device"] is not None:
            peak = f"{worker.last['device']:,.0f} on the GPU"
        line = [variant.model, variant.backend, variant.precision, "on" if variant.jit_compile else "off"]
        line += [f"{worker.rate:,.2f} ({min(worker.rates):,.2f}-{max(worker.rates):,.2f})"]
        line += [f"{worker.rate * variant.sequence_length:,.0f}"]
        line += [f"{statistics.median(seconds):.3f} ({min(seconds):.3f}-{max(seconds):.3f})", peak]
        line += ratios(worker, workers)
        if matrix_tflops is not None:
            # The weights of a layer's matrices, 85 million in all for `tibert_base`: six operations a token on each.
            weights = size["num_layers"] * (
                4 * size["hidden_dim"] ** 2 + 2 * size["hidden_dim"] * size["intermediate_dim"]
            )
            line += [f"{6 * weights * worker.rate * variant.sequence_length / (matrix_tflops * 1e12):.1%}"]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def load() -> str:
    """The load of the machine: with more than is run here, the figures are those of a contended one."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


def processor() -> str:
    """The processor, and whether it computes in bfloat16 itself; where it does not, that precision is emulated."""
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", described)
    features = [feature for feature in ("amx_bf16", "avx512_bf16") if feature in described]
    return f"{name[1] if name else platform.machine()} ({', '.join(features) or 'no bfloat16 in hardware'})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tibert_base")
    parser.add_argument("--vocabulary_size", type=int, default=30_000)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--sequence_length", type=int, default=128)
    parser.add_argument("--predictions", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="of each repeat; more where a step takes milliseconds")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1, help="of `tibert`")
    parser.add_argument("--rematerialize", action="store_true", help="of `tibert`")
    parser.add_argument("--matrix_tflops", type=float, help="the machine's matrix rate, of which to give the share")
    parser.add_argument("--match", default="", help="regular expression: only variants whose name has a match")
    parser.add_argument("--verbose", action="store_true", help="let through what the processes say")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    for name, choices in {
        "model": ["tibert", "kerashub", "transformers"],
        "backend": ["tensorflow", "jax"],
        "precision": ["float32", "mixed_bfloat16"],
        "jit_compile": ["true", "false"],
    }.items():
        parser.add_argument(f"--{name}", nargs="+", choices=choices, default=choices)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    flags = parse()
    if flags.work:
        work(Variant(**json.loads(flags.work)))
        return
    print(
        f"{datetime.date.today()}, {processor()}, {flags.threads} of {os.cpu_count()} cores, load {load()}: "
        f"{flags.preset}, {flags.batch_size} x {flags.sequence_length} tokens, {flags.predictions} predictions, "
        f"vocabulary {flags.vocabulary_size:,}; "
        f"gradient_accumulation_steps={flags.gradient_accumulation_steps}, rematerialize={flags.rematerialize}; "
        f"medians of {flags.repeats} interleaved repeats of {flags.steps} steps"
    )
    workers: list[Worker] = []
    try:
        for variant in variants(flags):
            workers.append(Worker.start(variant, verbose=flags.verbose))
            first = workers[-1].left_out or f"warm, its first steps took {workers[-1].warm['warm_up'][0]:.1f} s"
            print(f"{variant.name}: {first}", file=sys.stderr, flush=True)
        for _ in range(flags.repeats):
            for worker in workers:
                if worker.left_out is None:
                    worker.take_turn()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("Interrupted: the table is of what was measured until then.", file=sys.stderr)
    finally:
        for worker in workers:
            worker.stop()
    measured = [worker for worker in workers if worker.left_out is None and worker.seconds]
    versions = {name: version for worker in measured for name, version in worker.warm["versions"].items()}
    print(f"{', '.join(f'{name} {version}' for name, version in versions.items())}; load afterwards {load()}\n")
    print(table(measured, matrix_tflops=flags.matrix_tflops))
    for worker in workers:
        if worker.left_out:
            print(f"\nLeft out: {worker.variant.name}: {worker.left_out}")


if __name__ == "__main__":
    main()
