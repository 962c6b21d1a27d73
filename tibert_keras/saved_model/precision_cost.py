"""What weights in fewer bits cost: a model's figures on held-out data, with those and in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.finetuning.labelled_texts import LabelledText, read_labelled
from tibert_keras.finetuning.tokens import tag_documents
from tibert_keras.formats.keras_preset import Task
from tibert_keras.models.labels import label_ids
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.records.pipeline import Records
from tibert_keras.saved_model.compact_weights import CompactWeights, Precision
from tibert_keras.tagging.metrics import score_tagging
from tibert_keras.tagging.preparation import prepare_documents
from tibert_keras.tagging.reading import read_split, read_tagged, split_documents
from tibert_keras.tagging.words import CONTINUATION, Document
from tibert_keras.training.evaluate import evaluate

HeldOut = Records | Sequence[Document] | Sequence[LabelledText]


def read_held_out(model: Task, pattern: str, *, split_file: str | None = None, universal_tags: bool = False) -> HeldOut:
    """Read what a model is measured on, as a pretraining or a fine-tuning reads it.

    Args:
        model: The model, whose kind tells what is in the files.
        pattern: Records for a masked language model, tagged files for a tagger, tables of `label<TAB>text` for a
            classifier of texts: a path, a glob pattern, or several with commas between them.
        split_file: For a tagger: a table of documents, of which those for the test are taken, or those for the
            validation where there are none.
        universal_tags: For a tagger: turn the tags of the SOAS corpus into universal ones.

    Returns:
        Records, prepared documents or labelled texts.

    Raises:
        InputError: If the files do not fit the model, or an option of a tagger is given for another one.
    """
    if isinstance(model, TibertTokenClassifier):
        documents = read_tagged(pattern)
        if split_file is not None:
            parts = split_documents(documents, read_split(split_file))
            documents = parts["test"] or parts["validation"]
        kept = [label for label in model.labels if label != CONTINUATION]
        return prepare_documents(documents, universal_tags=universal_tags, keep_tags=kept)
    if split_file is not None or universal_tags:
        raise InputError(
            "Only a tagger is measured on documents with tags. Received: "
            f"{type(model).__name__} with split_file={split_file!r}, universal_tags={universal_tags}. Leave both out."
        )
    return read_labelled(pattern) if isinstance(model, TibertTextClassifier) else Records.find(pattern)


def compare_precision(model: Task, precision: Precision, held_out: HeldOut) -> str:
    """Measure on held-out data what a precision costs.

    Args:
        model: A masked language model, a tagger or a classifier of texts.
        precision: That of the weights.
        held_out: Masked records, prepared documents or labelled texts that the model was not trained on, as
            `read_held_out` reads them.

    Returns:
        A line for each figure: in float32, in `precision`, and the difference. Of a masked language model these are
        the accuracy and the loss (nats a masked token), of a tagger the joint F1, of a classifier the accuracy.

    Raises:
        InputError: If there are no data, or they are not of the model's kind.
    """
    expected: type = LabelledText
    if isinstance(model, TibertMaskedLM):
        expected = Records
    elif isinstance(model, TibertTokenClassifier):
        expected = Document
    given = [held_out] if isinstance(held_out, Records) else list(held_out)
    if not given or not all(isinstance(each, expected) for each in given):
        kinds = sorted({type(each).__name__ for each in given})
        raise InputError(
            f"What a precision costs is measured on data of the model's kind. Received: {kinds} for a "
            f"{type(model).__name__}. Give {expected.__name__}, as `read_held_out` does."
        )
    full = _figures(model, held_out)
    with CompactWeights(model, precision).assigned():
        compact = _figures(model, held_out)
    return "\n".join(
        f"{name}: {full[name]:.4f} in float32, {compact[name]:.4f} in {precision}, {compact[name] - full[name]:+.4f}"
        for name in full
    )


def _figures(model: Task, held_out: Any) -> dict[str, float]:
    if isinstance(held_out, Records):
        figures = evaluate(model, held_out)
        return {name: figures[name] for name in ("accuracy", "loss")}
    if isinstance(model, TibertTokenClassifier):
        # Which words it was trained on is not known here, nor asked for.
        figures = score_tagging(held_out, list(tag_documents(model, held_out)), known=()).as_dict()
        return {"joint_f1": figures["joint_f1"]}
    return {"accuracy": _accuracy(model, held_out)}


def _accuracy(model: TibertTextClassifier, texts: Sequence[LabelledText]) -> float:
    true = label_ids([text.label for text in texts], model.labels)
    if len(texts[0].segments) != model.preprocessor.num_segments:
        raise InputError(
            "A classifier is measured on as many texts side by side as it was trained on. Received: "
            f"{len(texts[0].segments)} texts a line, not {model.preprocessor.num_segments}. Give other files."
        )
    segments = tuple(list(column) for column in zip(*(text.segments for text in texts), strict=True))
    x = model.preprocessor(segments if len(segments) > 1 else segments[0], y=None)
    logits = model.predict(keras.tree.map_structure(keras.ops.convert_to_numpy, x), verbose=0)
    return float(np.mean(np.asarray(logits, "float32").argmax(axis=-1) == true))
