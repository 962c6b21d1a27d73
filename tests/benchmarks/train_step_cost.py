"""What XLA counts in a compiled training step: operations, bytes moved, instructions. No step is taken.

    KERAS_BACKEND=jax PYTHONPATH=. python tests/benchmarks/train_step_cost.py

These do not depend on what else the machine does, and say more than times on a CPU about machines of other kinds.
`kernels` are the instructions that are run one by one, each a fusion of others or a matrix product. `least` is what any
implementation needs: the products of matrices, each of which reads its factors and writes its result once, with the
last layer at the predictions only, and attention's scores never in memory.
"""

import dataclasses
import re
from typing import Any

import train_step
import train_step_variants


def cost(variant: train_step_variants.Variant) -> dict[str, Any]:
    """Compile the step as `fit()` does on JAX, and count."""
    import jax

    make = {"tibert": train_step_variants.tibert_model, "kerashub": train_step_variants.kerashub_model}
    model, batch = make[variant.model](variant), train_step_variants.random_batch(variant)
    model._symbolic_build(data_batch=batch)
    kinds = ("trainable", "non_trainable", "optimizer", "metrics")
    state = model._get_jax_state(**{f"{kind}_variables": True for kind in kinds})
    compiled = jax.jit(model.train_step, donate_argnums=0).lower(state, batch).compile()
    counted, text = compiled.cost_analysis(), compiled.as_text()
    instruction = re.compile(r"^\s+(?:ROOT )?%?\S+ = .*", re.MULTILINE)
    return {
        "Gflop": f"{counted['flops'] / 1e9:,.1f}",
        "GB moved": f"{counted['bytes accessed'] / 1e9:.2f}",
        "MB of temporaries": f"{compiled.memory_analysis().temp_size_in_bytes / 2**20:,.0f}",
        "instructions": f"{len(instruction.findall(text)):,}",
        "kernels": f"{len(instruction.findall(text[text.rindex('ENTRY') :])):,}",
    }


def least(variant: train_step_variants.Variant) -> tuple[float, float]:
    """The operations, and the bytes, of the matrix products of a step."""
    sizes, length, picked = variant.architecture, variant.sequence_length, variant.predictions
    hidden, inner, embedding = (sizes[f"{name}_dim"] for name in ("hidden", "intermediate", "embedding"))
    layers = sizes["num_layers"] - 1
    projections = [(hidden, hidden), (hidden, hidden)]
    # Rows of a sequence, and the sizes of a kernel.
    products = [(length, embedding, hidden)]
    products += [(length, *kernel) for kernel in [*projections * 2, (hidden, inner), (inner, hidden)]] * layers
    products += [(length, *kernel) for kernel in projections]
    products += [(picked, *kernel) for kernel in [*projections, (hidden, inner), (inner, hidden)]]
    products += [(picked, hidden, embedding), (picked, embedding, variant.vocabulary_size)]
    # Queries with keys, and weights with values.
    attention = 4 * hidden * length * (layers * length + picked)
    operations = sum(2 * rows * k * n for rows, k, n in products) + attention
    size = 4 if variant.precision == "float32" else 2
    attended = 2 * hidden * (2 * layers * length + length + picked)
    numbers = sum(variant.batch_size * rows * (k + n) + k * n for rows, k, n in products)
    # Each product again for either gradient.
    return 3 * variant.batch_size * operations, 3 * size * (numbers + variant.batch_size * attended)


def main() -> None:
    """Print the table."""
    flags = train_step.parse()
    flags.backend, flags.jit_compile = ["jax"], ["true"]
    flags.model = [model for model in flags.model if model != "transformers"]
    for number, variant in enumerate(train_step.variants(flags)):
        line = {"model": variant.model, "precision": variant.precision, **cost(variant)}
        if not number:
            print(f"| {' | '.join(line)} |\n|{' --- |' * len(line)}")
        print(f"| {' | '.join(line.values())} |", flush=True)
    for precision in flags.precision:
        operations, moved = least(dataclasses.replace(variant, precision=precision))
        print(f"| least | {precision} | {operations / 1e9:,.1f} | {moved / 1e9:.2f} | | | |")


if __name__ == "__main__":
    main()
