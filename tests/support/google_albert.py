"""Google's ALBERT beside ours: its names for our variables, its reference numbers, its pretraining model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tibert_keras.formats.google_names import read_google_checkpoint
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay

# Google's names and the ends of our variables' paths.
_GROUP = "bert/encoder/transformer/group_0/inner_group_0"
PATHS = {
    "bert/embeddings/word_embeddings": "token_embedding/embeddings",
    "bert/embeddings/position_embeddings": "position_embedding/embeddings",
    "bert/embeddings/token_type_embeddings": "segment_embedding/embeddings",
    "bert/embeddings/LayerNorm": "embeddings_layer_norm",
    "bert/encoder/embedding_hidden_mapping_in": "embedding_projection",
    f"{_GROUP}/attention_1/self/query": "self_attention_layer/query",
    f"{_GROUP}/attention_1/self/key": "self_attention_layer/key",
    f"{_GROUP}/attention_1/self/value": "self_attention_layer/value",
    f"{_GROUP}/attention_1/output/dense": "self_attention_layer/attention_output",
    f"{_GROUP}/LayerNorm": "self_attention_layer_norm",
    f"{_GROUP}/LayerNorm_1": "feedforward_layer_norm",
    f"{_GROUP}/ffn_1/intermediate/dense": "feedforward_intermediate_dense",
    f"{_GROUP}/ffn_1/intermediate/output/dense": "feedforward_output_dense",
    "bert/pooler/dense": "pooled_dense",
    "cls/predictions/transform/dense": "mlm_head/intermediate_dense",
    "cls/predictions/transform/LayerNorm": "mlm_head/intermediate_layer_norm",
    "cls/predictions/output_bias": "mlm_head/output_bias",
    "cls/seq_relationship/output_weights": "sop_head/kernel",
    "cls/seq_relationship/output_bias": "sop_head/bias",
}
SLOTS = ("adam_m", "adam_v")


def folder(shared: Path) -> Path:
    """Where the reference numbers are."""
    return shared / "golden" / "public"


def variables(model: keras.Model, names: Any) -> dict[str, keras.Variable]:
    """Our variables under Google's names, for those of `names` that the model has."""
    by_end = {"/".join(v.path.split("/")[-n:]): v for v in model.weights for n in (2, 3)}
    found = {}
    for name in names:
        layer, _, kind = name.rpartition("/")
        path = PATHS.get(name) or (f"{PATHS[layer]}/{kind}" if layer in PATHS else None)
        if path in by_end:
            found[name] = by_end[path]
    return found


def as_google(name: str, array: Any) -> np.ndarray:
    """An array of ours in Google's layout: heads merged, the SOP kernel transposed."""
    array = keras.ops.convert_to_numpy(array)
    if array.ndim == 3:
        array = array.reshape((-1, array.shape[2]) if "output" in name else (array.shape[0], -1))
    if "attention" in name and name.endswith("bias"):
        array = array.reshape(-1)
    return array.T if "output_weights" in name else array


def load(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Assign Google's weights to a model, each of them used and each of ours set."""
    found = variables(model, weights)
    assert len({id(v) for v in found.values()}) == len(model.weights)
    for name, variable in found.items():
        value = weights[name].T if "output_weights" in name else weights[name]
        variable.assign(value.reshape(variable.shape))


def differences(model: keras.Model, reference: Mapping[str, np.ndarray], prefix: str = "final/") -> dict:
    """The largest absolute difference of each kind: weights, adam_m, adam_v."""
    names = [n.removeprefix(prefix) for n in reference if n.startswith(prefix)]
    worst = {"weights": 0.0, "adam_m": 0.0, "adam_v": 0.0}
    for name, variable in variables(model, names).items():
        pairs = {"weights": (name, variable)}
        if f"{prefix}{name}/adam_m" in reference:
            slots = model.optimizer.slots(variable)
            pairs |= {slot: (f"{name}/{slot}", slots[slot]) for slot in SLOTS}
        for kind, (key, ours) in pairs.items():
            error = np.abs(as_google(name, ours) - reference[prefix + key]).max()
            worst[kind] = max(worst[kind], float(error))
    return worst


def keras_named(checkpoint: Path) -> dict[str, np.ndarray]:
    """A checkpoint of Google's as Keras's layer normalisation would have named it, counted through the graph."""
    scopes = {
        "bert/embeddings/LayerNorm/": "bert/embeddings/layer_normalization/",
        f"{_GROUP}/LayerNorm/": f"{_GROUP}/layer_normalization_1/",
        f"{_GROUP}/LayerNorm_1/": f"{_GROUP}/layer_normalization_2/",
        "cls/predictions/transform/LayerNorm/": "cls/predictions/transform/layer_normalization_3/",
    }
    renamed = {}
    for name, array in read_google_checkpoint(checkpoint).items():
        scope = next((scope for scope in scopes if name.startswith(scope)), "")
        renamed[scopes.get(scope, "") + name.removeprefix(scope)] = array
    return renamed


def batch(arrays: Mapping[str, np.ndarray], step: Any = ...) -> tuple[dict, np.ndarray, np.ndarray]:
    """One batch of Google's as features, labels and weights of a masked language model."""
    features = {
        "token_ids": arrays["input_ids"][step],
        "segment_ids": arrays["segment_ids"][step],
        "padding_mask": arrays["input_mask"][step],
        "mask_positions": arrays["masked_lm_positions"][step],
    }
    return features, arrays["masked_lm_ids"][step], arrays["masked_lm_weights"][step]


def batches(reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The training batches of a trajectory file."""
    return {n.removeprefix("batches/"): reference[n] for n in reference if n.startswith("batches/")}


def masked_lm(golden: Path, **kwargs: Any) -> TibertMaskedLM:
    """Our masked language model with Google's first checkpoint."""
    backbone = TibertBackbone.from_albert_config(golden / "albert_config.json", **kwargs)
    model = TibertMaskedLM(backbone)
    load(model, np.load(golden / "weights_ckpt0.npz"))
    return model


def pretraining(golden: Path) -> keras.Model:
    """A model of both of Google's pretraining tasks, with the first checkpoint."""
    task = masked_lm(golden)
    outputs = task.backbone(task.backbone.input)
    logits = {
        "mlm": task.masked_lm_head(outputs["sequence_output"], task.input["mask_positions"]),
        "sop": keras.layers.Dense(2, name="sop_head")(outputs["pooled_output"]),
    }
    model = keras.Model(task.input, logits)
    load(model, np.load(golden / "weights_ckpt0.npz"))
    return model


def lamb(reference: Mapping[str, np.ndarray], start_warmup_step: int = 0) -> LAMB:
    """The optimizer of a trajectory file."""
    return LAMB(
        WarmupPolynomialDecay(
            float(reference["init_lr"]),
            int(reference["num_train_steps"]),
            int(reference["num_warmup_steps"]),
            start_warmup_step=start_warmup_step,
        )
    )


def train(model: keras.Model, arrays: Mapping[str, np.ndarray], steps: range, *, sop: bool) -> dict[str, list[float]]:
    """Train on the batches `steps`; returns what Google's trajectory files hold for each."""
    log: dict[str, list[float]] = {"loss": [], "learning_rate": [], "grad_norm": []}
    y: Any
    weight: Any
    for step in steps:
        x, y, weight = batch(arrays, step)
        if sop:
            y = {"mlm": y, "sop": arrays["next_sentence_labels"][step]}
            weight = {"mlm": weight, "sop": np.ones(len(weight), "float32")}
        log["learning_rate"].append(float(model.optimizer.learning_rate))
        model.reset_metrics()
        log["loss"].append(float(model.train_on_batch(x, y, weight, return_dict=True)["loss"]))
        log["grad_norm"].append(float(model.optimizer.gradient_norm))
    return log


def losses(*, sop: bool) -> Any:
    """The loss of the masked language model, or of both tasks."""
    if not sop:
        return MaskedLanguageModelLoss()
    return {
        "mlm": MaskedLanguageModelLoss(),
        "sop": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
