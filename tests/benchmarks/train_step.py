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
with as many threads. `processor s/step` is the time of all its threads, which the work of others disturbs least.
The peak memory is that of the process (in brackets: before there was a model), or on a GPU that of the device.
"""

import argparse
import datetime
import itertools
import os
import re
import signal
import sys

from train_step_table import Worker, load, processor, table
from train_step_variants import Variant

from tibert_keras.models.tibert_presets import backbone_presets


def variants(flags: argparse.Namespace) -> list[Variant]:
    """All that were asked for: the two of Keras on each backend, and PyTorch."""
    common = {
        name: getattr(flags, name)
        for name in (
            "vocabulary_size", "batch_size", "sequence_length", "predictions", "steps", "threads",
            "gradient_accumulation_steps", "rematerialize",
        )
    }  # fmt: skip
    sizes = backbone_presets[flags.preset]["config"]
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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tibert_base", choices=backbone_presets)
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
    # `KERAS_BACKEND=jax` is enough where there is no TensorFlow.
    defaults = {"backend": [os.environ["KERAS_BACKEND"]]} if os.environ.get("KERAS_BACKEND") else {}
    for name, choices in {
        "model": ["tibert", "kerashub", "transformers"],
        "backend": ["tensorflow", "jax"],
        "precision": ["float32", "mixed_bfloat16"],
        "jit_compile": ["true", "false"],
    }.items():
        parser.add_argument(f"--{name}", nargs="+", choices=choices, default=defaults.get(name, choices))
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    flags = parse()
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
