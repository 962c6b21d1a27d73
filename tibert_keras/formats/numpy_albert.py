"""Runs ALBERT in plain NumPy on a checkpoint's variables: to check a conversion, or to answer before Keras is loaded.

It shares only the file readers with the conversion. It uses none of the tables that map names and layouts, so a fault
in these shows as a difference.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Batch(NamedTuple):
    """Inputs, int32 `[batch, sequence]`, and the positions to predict, int32 `[batch, predictions]`."""

    token_ids: np.ndarray
    segment_ids: np.ndarray
    padding_mask: np.ndarray
    mask_positions: np.ndarray


# The names of the layers in Google's checkpoints and in folders of transformers. `{group}` and `{inner}` are numbers.
# Names that begin with a slash or a dot follow the name of the layer.
_NAMES = {
    "words": ("bert/embeddings/word_embeddings", "albert.embeddings.word_embeddings.weight"),
    "positions": ("bert/embeddings/position_embeddings", "albert.embeddings.position_embeddings.weight"),
    "segments": ("bert/embeddings/token_type_embeddings", "albert.embeddings.token_type_embeddings.weight"),
    "embedding_norm": ("bert/embeddings/LayerNorm", "albert.embeddings.LayerNorm"),
    "mapping": ("bert/encoder/embedding_hidden_mapping_in", "albert.encoder.embedding_hidden_mapping_in"),
    "layer": (
        "bert/encoder/transformer/group_{group}/inner_group_{inner}",
        "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}",
    ),
    "query": ("/attention_1/self/query", ".attention.query"),
    "key": ("/attention_1/self/key", ".attention.key"),
    "value": ("/attention_1/self/value", ".attention.value"),
    "attention": ("/attention_1/output/dense", ".attention.dense"),
    "attention_norm": ("/LayerNorm", ".attention.LayerNorm"),
    "widen": ("/ffn_1/intermediate/dense", ".ffn"),
    "narrow": ("/ffn_1/intermediate/output/dense", ".ffn_output"),
    "layer_norm": ("/LayerNorm_1", ".full_layer_layer_norm"),
    "pooler": ("bert/pooler/dense", "albert.pooler"),
    "transform": ("cls/predictions/transform/dense", "predictions.dense"),
    "transform_norm": ("cls/predictions/transform/LayerNorm", "predictions.LayerNorm"),
    "output_bias": ("cls/predictions/output_bias", "predictions.bias"),
    "order": ("cls/seq_relationship/output_weights", "sop_classifier.classifier.weight"),
    "order_bias": ("cls/seq_relationship/output_bias", "sop_classifier.classifier.bias"),
    "classes": ("output", "classifier"),
}
GOOGLE_NAMES = {name: google for name, (google, _) in _NAMES.items()}
HUGGING_FACE_NAMES = {name: hugging_face for name, (_, hugging_face) in _NAMES.items()}


def plain_outputs(
    variables: Arrays,
    config: Mapping[str, Any],
    names: Mapping[str, str],
    batch: Batch,
    *,
    classifies: str | None = None,
    only_masked: bool = False,
) -> dict[str, np.ndarray]:
    """Run ALBERT of https://arxiv.org/abs/1909.11942 on a checkpoint's variables.

    Args:
        variables: The variables by the format's names, all of the precision in which to compute.
        config: Sizes under the names of `albert_config.json`.
        names: The format's names.
        batch: The inputs.
        classifies: The output that the classifier reads, if there is one: `"sequence_output"` or `"pooled_output"`.
        only_masked: Return `masked_lm` alone, for which most of the last layer need not be computed.

    Returns:
        `sequence_output` `[batch, sequence, hidden]` and, if the checkpoint has the variables, `pooled_output`
        `[batch, hidden]` and log-probabilities: `masked_lm` `[batch, predictions, vocabulary]`, `sentence_order`
        `[batch, 2]` and a classifier's `classes` `[batch, ..., classes]`.
    """
    google = names is GOOGLE_NAMES

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        kernel = variables[f"{name}/kernel"] if google else variables[f"{name}.weight"].T
        return _affine(x, kernel, variables[f"{name}/bias" if google else f"{name}.bias"])

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        gamma, beta = (f"{name}/gamma", f"{name}/beta") if google else (f"{name}.weight", f"{name}.bias")
        return _normalized(x) * variables[gamma] + variables[beta]

    length = batch.token_ids.shape[1]
    x = variables[names["words"]][batch.token_ids]
    x = x + variables[names["positions"]][:length] + variables[names["segments"]][batch.segment_ids]
    x = norm(x, names["embedding_norm"])
    if not google or names["mapping"] + "/kernel" in variables:
        x = dense(x, names["mapping"])

    layers, groups = config["num_hidden_layers"], config["num_hidden_groups"]
    unseen = np.where(batch.padding_mask[:, None, None, :] > 0, 0.0, -1e9).astype(x.dtype)
    places = batch.mask_positions[..., None]
    for number in range(layers):
        for inner in range(config["inner_group_num"]):
            layer = names["layer"].format(group=number * groups // layers, inner=inner)

            def heads(x: np.ndarray, name: str, layer: str = layer) -> np.ndarray:
                # [batch, heads, sequence, size]
                return dense(x, layer + name).reshape(*x.shape[:2], config["num_attention_heads"], -1).swapaxes(1, 2)

            is_last = (number, inner) == (layers - 1, config["inner_group_num"] - 1)
            rows = np.take_along_axis(x, places, axis=1) if only_masked and is_last else x
            query, key, value = heads(rows, names["query"]), heads(x, names["key"]), heads(x, names["value"])
            scores = query @ key.swapaxes(2, 3) / math.sqrt(query.shape[-1]) + unseen
            seen = (_softmax(scores) @ value).swapaxes(1, 2).reshape(rows.shape)
            x = norm(rows + dense(seen, layer + names["attention"]), layer + names["attention_norm"])
            wide = _gelu(dense(x, layer + names["widen"]))
            x = norm(x + dense(wide, layer + names["narrow"]), layer + names["layer_norm"])

    def masked_lm(chosen: np.ndarray) -> np.ndarray:
        hidden = norm(_gelu(dense(chosen, names["transform"])), names["transform_norm"])
        return log_softmax(hidden @ variables[names["words"]].T + variables[names["output_bias"]])

    if only_masked:
        return {"masked_lm": masked_lm(x)}
    outputs = {"sequence_output": x}
    if names["output_bias"] in variables:
        outputs["masked_lm"] = masked_lm(np.take_along_axis(x, places, axis=1))
    if any(name.startswith(names["pooler"]) for name in variables):
        pooled = outputs["pooled_output"] = np.tanh(dense(x[:, 0], names["pooler"]))
        if names["order"] in variables:
            outputs["sentence_order"] = log_softmax(
                pooled @ variables[names["order"]].T + variables[names["order_bias"]]
            )
    if classifies is not None:
        outputs["classes"] = log_softmax(dense(outputs[classifies], names["classes"]))
    return outputs


def _affine(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    # One product of matrices: of `[batch, sequence, hidden]` NumPy makes one for each sequence.
    y = x.reshape(-1, x.shape[-1]) @ kernel
    y += bias
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _normalized(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    x /= np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
    return x


def _gelu(x: np.ndarray) -> np.ndarray:
    """GELU in its tanh approximation, in place: new arrays would take more time than the arithmetic."""
    y = x * x
    y *= 0.044715
    y += 1
    y *= x
    y *= math.sqrt(2 / math.pi)
    np.tanh(y, out=y)
    y += 1
    y *= 0.5
    x *= y
    return x


def _softmax(x: np.ndarray) -> np.ndarray:
    """The softmax over the last axis, in place."""
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x


def log_softmax(x: np.ndarray) -> np.ndarray:
    """The logarithm of the softmax over the last axis."""
    x = x - x.max(-1, keepdims=True)
    x -= np.log(np.exp(x).sum(-1, keepdims=True))
    return x
