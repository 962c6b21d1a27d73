"""What SavedModels are made of, and models to make them of."""

import re
from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2

from tests.support.tiny_models import randomize, tiny
from tibert_keras import (
    TibertTextClassifier,
    TibertTextClassifierPreprocessor,
    TibertTokenClassifier,
    TibertTokenClassifierPreprocessor,
    TibertTokenizer,
)


def stock_ops() -> set[str]:
    """The ops that TensorFlow Serving, as it is released, is known to have."""
    page = Path(__file__).parents[2] / "docs/decisions/0008-ops-of-stock-serving.md"
    return set(re.search(r"```ops\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1].split())


def ops_of(folder: Path) -> set[str]:
    """All ops of a SavedModel, those of its functions too."""
    graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes} - functions


def assert_stock_ops(folder: Path) -> None:
    ops = ops_of(folder)
    assert {"SentencepieceOp", "BatchMatMulV2"} <= ops
    assert ops - stock_ops() == set()


LABELS = ["ADP", "NOUN", "PUNCT", "CONT"]


# Each layer takes as long to trace.
SIZES = {"vocabulary_size": 400, "num_layers": 1, "max_sequence_length": 32}


def tagger_of(spm_model, **options):
    tokenizer = TibertTokenizer(spm_model, tsheg_pretokenization=True, **options)
    preprocessor = TibertTokenClassifierPreprocessor(tokenizer, labels=LABELS, sequence_length=32)
    return randomize(TibertTokenClassifier(tiny(**SIZES), labels=LABELS, preprocessor=preprocessor))


def classifier_of(spm_model, **options):
    tokenizer = TibertTokenizer(spm_model, **options)
    preprocessor = TibertTextClassifierPreprocessor(tokenizer, labels=["prose", "verse"], sequence_length=32)
    return randomize(TibertTextClassifier(tiny(**SIZES), labels=["prose", "verse"], preprocessor=preprocessor))
