"""The largest differences between our models and the numbers of Google's own code, as a table.

    PYTHONPATH=. python tests/benchmarks/google_parity.py ../shared

The argument is the folder that holds `golden/public`. Set KERAS_BACKEND for another backend.
"""

import sys
from pathlib import Path

import keras
import numpy as np

from tests.support import google_albert


def forward(golden: Path) -> dict[str, float]:
    """The differences of one forward pass."""
    reference = np.load(golden / "forward.npz")
    model = google_albert.masked_lm(golden)
    features = google_albert.batch(reference)[0]
    encoded = model.backbone({key: features[key] for key in ("token_ids", "segment_ids", "padding_mask")})
    log_probs = keras.ops.log_softmax(model(features))
    found = {
        "sequence output": (encoded["sequence_output"], reference["sequence_output"]),
        "pooled output": (encoded["pooled_output"], reference["pooled_output"]),
        "log-probabilities of the masked LM": (log_probs, reference["mlm_log_probs"].reshape(log_probs.shape)),
    }
    return {name: float(np.abs(keras.ops.convert_to_numpy(a) - b).max()) for name, (a, b) in found.items()}


def trajectory(golden: Path, *, sop: bool) -> dict[str, float]:
    """The differences over 30 steps of LAMB."""
    tasks = "two tasks" if sop else "masked LM"
    reference = np.load(golden / f"lamb_{'sop' if sop else 'no_sop'}.npz")
    model = google_albert.pretraining(golden) if sop else google_albert.masked_lm(golden)
    model.compile(google_albert.lamb(reference), google_albert.losses(sop=sop), jit_compile=True)
    log = google_albert.train(model, google_albert.batches(reference), range(30), sop=sop)
    norm = np.abs(np.array(log["grad_norm"]) / reference["grad_norm"] - 1).max()
    return {
        f"loss over 30 steps, {tasks}": float(np.abs(np.array(log["loss"]) - reference["loss"]).max()),
        f"gradient norm over 30 steps, relative, {tasks}": float(norm),
        f"weights after 30 steps, {tasks}": google_albert.differences(model, reference)["weights"],
    }


if __name__ == "__main__":
    golden_folder = google_albert.folder(Path(sys.argv[1]))
    print(f"| {keras.backend.backend()} | largest difference |\n|---|---|")
    rows = forward(golden_folder) | trajectory(golden_folder, sop=False) | trajectory(golden_folder, sop=True)
    for name, difference in rows.items():
        print(f"| {name} | {difference:.1e} |")
