"""What SavedModels are made of, and models to make them of."""

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


def ops_of(folder: Path) -> set[str]:
    """All ops of a SavedModel, those of its functions too."""
    graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes} - functions


LABELS = ["ADP", "NOUN", "PUNCT", "CONT"]


def tagger_of(spm_model, **options):
    tokenizer = TibertTokenizer(spm_model, tsheg_pretokenization=True, **options)
    preprocessor = TibertTokenClassifierPreprocessor(tokenizer, labels=LABELS, sequence_length=32)
    return randomize(
        TibertTokenClassifier(
            tiny(vocabulary_size=400, max_sequence_length=32), labels=LABELS, preprocessor=preprocessor
        )
    )


def classifier_of(spm_model, **options):
    tokenizer = TibertTokenizer(spm_model, **options)
    preprocessor = TibertTextClassifierPreprocessor(tokenizer, labels=["prose", "verse"], sequence_length=32)
    backbone = tiny(vocabulary_size=400, max_sequence_length=32)
    return randomize(TibertTextClassifier(backbone, labels=["prose", "verse"], preprocessor=preprocessor))
