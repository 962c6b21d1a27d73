"""The names of ALBERT's variables: ours, those of Google's checkpoints, and those of folders of transformers."""

from collections.abc import Iterator
from typing import Any

from tibert_keras.formats.renaming import Row

# The kind of each layer and its three names, a star being a layer of the encoder. Google's are those of `modeling.py`
# and `run_pretraining.py` of google-research/albert, without the classifiers, which are called otherwise.
_LAYERS = (
    ("table", "token_embedding", "bert/embeddings/word_embeddings", "albert.embeddings.word_embeddings"),
    ("table", "position_embedding", "bert/embeddings/position_embeddings", "albert.embeddings.position_embeddings"),
    ("table", "segment_embedding", "bert/embeddings/token_type_embeddings", "albert.embeddings.token_type_embeddings"),
    ("norm", "embeddings_layer_norm", "bert/embeddings/LayerNorm", "albert.embeddings.LayerNorm"),
    (
        "dense", "embedding_projection",
        "bert/encoder/embedding_hidden_mapping_in", "albert.encoder.embedding_hidden_mapping_in",
    ),
    ("dense", "*/self_attention_layer/query", "*/attention_1/self/query", "*.attention.query"),
    ("dense", "*/self_attention_layer/key", "*/attention_1/self/key", "*.attention.key"),
    ("dense", "*/self_attention_layer/value", "*/attention_1/self/value", "*.attention.value"),
    ("joining", "*/self_attention_layer/attention_output", "*/attention_1/output/dense", "*.attention.dense"),
    ("norm", "*/self_attention_layer_norm", "*/LayerNorm", "*.attention.LayerNorm"),
    ("dense", "*/feedforward_intermediate_dense", "*/ffn_1/intermediate/dense", "*.ffn"),
    ("dense", "*/feedforward_output_dense", "*/ffn_1/intermediate/output/dense", "*.ffn_output"),
    ("norm", "*/feedforward_layer_norm", "*/LayerNorm_1", "*.full_layer_layer_norm"),
    ("dense", "pooled_dense", "bert/pooler/dense", "albert.pooler"),
    ("dense", "mlm_head/intermediate_dense", "cls/predictions/transform/dense", "predictions.dense"),
    ("norm", "mlm_head/intermediate_layer_norm", "cls/predictions/transform/LayerNorm", "predictions.LayerNorm"),
    ("bias", "mlm_head", "cls/predictions", "predictions"),
    ("order", "sop_head", "cls/seq_relationship", "sop_classifier.classifier"),
    ("dense", "logits", "", "classifier"),
)  # fmt: skip
_ENCODER_LAYER = (
    "group_{group}_inner_layer_{inner}",
    "bert/encoder/transformer/group_{group}/inner_group_{inner}",
    "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}",
)
# The variables of each kind of layer: their three names, and how many leading axes of ours are inputs.
_VARIABLES: dict[str, list[tuple[Any, ...]]] = {
    "table": [("/embeddings", "", ".weight", None)],
    "norm": [("/gamma", "/gamma", ".weight", None), ("/beta", "/beta", ".bias", None)],
    "dense": [("/kernel", "/kernel", ".weight", 1), ("/bias", "/bias", ".bias", 0)],
    "joining": [("/kernel", "/kernel", ".weight", 2), ("/bias", "/bias", ".bias", 0)],
    "bias": [("/output_bias", "/output_bias", ".bias", None)],
    "order": [("/kernel", "/output_weights", ".weight", 1), ("/bias", "/output_bias", ".bias", 0)],
}


def _rows(column: int) -> Iterator[Row]:
    """Make the rows for the names in a column: 1 for Google's, 2 for those of transformers."""
    for kind, *layer in _LAYERS:
        for *variable, inputs in _VARIABLES[kind] if layer[column] else []:
            ours, theirs = (layer[each].replace("*", _ENCODER_LAYER[each]) + variable[each] for each in (0, column))
            # PyTorch has the outputs first in all matrices, Google in one.
            yield Row(ours, theirs, inputs, transposed=bool(inputs) and (column == 2 or kind == "order"))


GOOGLE = tuple(_rows(1))
HUGGING_FACE = tuple(_rows(2))
