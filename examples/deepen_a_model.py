"""Give a pretrained model twice as many layers, to go on with the training of a deeper one.

    python examples/deepen_a_model.py MODEL DEEPER

MODEL is `tibert_small_derge`, or the folder of a preset, such as a run's `champion`; DEEPER is the preset to write. The
new layers follow the old ones and are copies of them, but add nothing yet: what they would add to the residual
connections is multiplied by zeros. So the deeper model predicts what the old one does, and keeps what that has learnt:

    tibert pretrain --preset=DEEPER --input_file=... --output_dir=...

Stacking two layers twice instead, as in https://proceedings.mlr.press/v97/gong19a.html, lost everything they had
learnt: with so few layers, each does something different.
"""

import sys

import numpy as np

from tibert_keras import TibertBackbone, TibertMaskedLM

# What a layer adds to its input, by attention and by the feedforward network.
ADDED = ("attention_output", "feedforward_output_dense")
LAST_NORM = "feedforward_layer_norm"


def deepen(model: TibertMaskedLM) -> TibertMaskedLM:
    """Return a model with twice the layers and the same predictions."""
    config = model.backbone.get_config()
    layers = config["num_layers"]
    if config["num_groups"] != layers or config["num_inner_repetitions"] != 1:
        sys.exit(f"Each layer must have weights of its own. Received: num_groups={config['num_groups']} of {layers}.")
    backbone = TibertBackbone.from_config({**config, "num_layers": 2 * layers, "num_groups": 2 * layers})
    deeper = TibertMaskedLM(backbone, preprocessor=model.preprocessor)
    values = {weight.path: np.asarray(weight) for weight in model.weights}
    for weight in deeper.weights:
        weight.assign(_value(weight.path, layers, values))
    return deeper


def _value(path: str, layers: int, values: dict[str, np.ndarray]) -> np.ndarray:
    if not path.startswith("group_"):
        return values[path]
    layer, name = path.removeprefix("group_").split("_", 1)
    value = values[f"group_{int(layer) % layers}_{name}"]
    is_norm = "layer_norm" in name
    # The last layer scales as the last did before. All in between, and the old last one, only normalise, which done
    # again changes nothing.
    if LAST_NORM in name and int(layer) == 2 * layers - 1:
        return value
    if is_norm and (int(layer) >= layers or (LAST_NORM in name and int(layer) == layers - 1)):
        return np.ones_like(value) if path.endswith("gamma") else np.zeros_like(value)
    return np.zeros_like(value) if int(layer) >= layers and any(part in name for part in ADDED) else value


if __name__ == "__main__":
    deepen(TibertMaskedLM.from_preset(sys.argv[1])).save_to_preset(sys.argv[2])
