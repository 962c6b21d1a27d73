"""The largest differences between our models and the same ones in transformers, at all positions of three sequences.

    PYTHONPATH=. python tests/benchmarks/parity.py tibert_nano tibert_base RUN ../shared/golden/public/model.ckpt-30

Each argument is an architecture, which gets random weights, or what `tibert convert` reads: a preset or run, or a
checkpoint of Google's.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import torch
from transformers import AutoModelForMaskedLM

from tibert_keras import TibertMaskedLM
from tibert_keras.formats.google_checkpoint import find_google_files, read_google
from tibert_keras.formats.hugging_face import write_hugging_face
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_pretraining import TibertPretraining


def read(name: str) -> PortableModel:
    """The model of an argument."""
    if name in TibertBackbone.presets:
        return PortableModel(model=TibertMaskedLM.from_preset(name, vocabulary_size=10_000, dtype="float32"))
    return read_google(find_google_files(name)) if "ckpt" in name else read_keras(name)


def differences(portable: PortableModel) -> tuple[float, float]:
    """Of the log-probabilities of the masked tokens, and of the last layer."""
    with tempfile.TemporaryDirectory() as folder:
        write_hugging_face(portable, Path(folder) / "hf")
        theirs = AutoModelForMaskedLM.from_pretrained(Path(folder) / "hf").eval()
    length = min(128, portable.backbone.max_sequence_length)
    rng = np.random.default_rng(1)
    padding_mask = np.ones((3, length), "int32")
    padding_mask[1, 7:] = 0
    x = {
        "token_ids": rng.integers(0, portable.backbone.vocabulary_size, padding_mask.shape),
        "segment_ids": rng.integers(0, portable.backbone.num_segments, padding_mask.shape),
        "padding_mask": padding_mask,
    }
    with torch.no_grad():
        there = theirs(
            input_ids=torch.tensor(x["token_ids"]),
            attention_mask=torch.tensor(x["padding_mask"]),
            token_type_ids=torch.tensor(x["segment_ids"]),
            output_hidden_states=True,
        )
    model = portable.model.masked_lm() if isinstance(portable.model, TibertPretraining) else portable.model
    logits = model({**x, "mask_positions": np.broadcast_to(np.arange(length), padding_mask.shape)})
    pairs = [
        (keras.ops.log_softmax(logits), torch.log_softmax(there.logits, -1)),
        (portable.backbone(x)["sequence_output"], there.hidden_states[-1]),
    ]
    first, last = (float(np.abs(keras.ops.convert_to_numpy(a) - b.numpy()).max()) for a, b in pairs)
    return first, last


if __name__ == "__main__":
    keras.utils.set_random_seed(1)
    for name in sys.argv[1:]:
        probabilities, layer = differences(read(name))
        print(f"{name}: log-probabilities {probabilities:.1e}, last layer {layer:.1e}", flush=True)
