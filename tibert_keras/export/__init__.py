"""A champion to elsewhere: SavedModels for serving, the formats of Google and Hugging Face, and its card."""

from tibert_keras.export.against_hugging_face import check_loss, hugging_face_loss
from tibert_keras.export.card import write_card
from tibert_keras.export.convert import ConvertConfig, Proof, convert
from tibert_keras.export.fill_mask import FilledMask, fill_gaps, fill_mask, load_fill_mask
from tibert_keras.export.gap_search import Candidate
from tibert_keras.export.saved_model import FillMask, SavedModelOfBest, export_saved_model

__all__ = [
    "Candidate",
    "ConvertConfig",
    "FillMask",
    "FilledMask",
    "Proof",
    "SavedModelOfBest",
    "check_loss",
    "convert",
    "export_saved_model",
    "fill_gaps",
    "fill_mask",
    "hugging_face_loss",
    "load_fill_mask",
    "write_card",
]
