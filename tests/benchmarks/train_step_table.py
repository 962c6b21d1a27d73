"""What `train_step.py` prints: a process for each variant, and the table of what they measured."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import train_step_variants
from train_step_variants import Variant


@dataclass
class Worker:
    """The process of a variant, and what it measured."""

    variant: Variant
    process: subprocess.Popen[str]
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
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
            [sys.executable, train_step_variants.__file__, json.dumps(asdict(variant))],
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
            self.processor.append(self.last["processor"])

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
        "processor s/step",
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
        line += [f"{statistics.median(seconds):.3f} ({min(seconds):.3f}-{max(seconds):.3f})"]
        line += [f"{statistics.median(worker.processor) / variant.steps:.2f}", peak]
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
