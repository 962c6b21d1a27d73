"""A champion to elsewhere: SavedModels for serving, the formats of Google and Hugging Face, and its card."""

from tibert_keras.export.against_hugging_face import check_loss, hugging_face_loss, require_transformers
from tibert_keras.export.card import write_card
from tibert_keras.export.compact_weights import CompactWeights
from tibert_keras.export.convert import ConvertConfig, Proof, convert
from tibert_keras.export.fill_file import FilledText, FillMaskConfig, fill_file, fill_texts, read_texts, write_filled
from tibert_keras.export.fill_mask import FilledMask, fill_gaps, fill_mask, load_fill_mask
from tibert_keras.export.gap_score import Candidate
from tibert_keras.export.keras_preset import load_task
from tibert_keras.export.precision_cost import compare_precision, read_held_out
from tibert_keras.export.saved_model import (
    FillMask,
    SavedModelOfBest,
    export_saved_model,
    require_tensorflow,
)
from tibert_keras.export.segment_text import (
    SegmentConfig,
    SegmentExamplesConfig,
    segment_examples,
    segment_text,
    sentences,
)
from tibert_keras.export.tag_text import TagConfig, TaggedLine, tag_each, tag_text, write_pieces
from tibert_keras.export.versions import find_saved_model, next_version

__all__ = [
    "Candidate",
    "CompactWeights",
    "ConvertConfig",
    "FillMask",
    "FillMaskConfig",
    "FilledMask",
    "FilledText",
    "Proof",
    "SavedModelOfBest",
    "SegmentConfig",
    "SegmentExamplesConfig",
    "TagConfig",
    "TaggedLine",
    "check_loss",
    "compare_precision",
    "convert",
    "export_saved_model",
    "fill_file",
    "fill_gaps",
    "fill_mask",
    "fill_texts",
    "find_saved_model",
    "hugging_face_loss",
    "load_fill_mask",
    "load_task",
    "next_version",
    "read_held_out",
    "read_texts",
    "require_tensorflow",
    "require_transformers",
    "segment_examples",
    "segment_text",
    "sentences",
    "tag_each",
    "tag_text",
    "write_card",
    "write_filled",
    "write_pieces",
]
