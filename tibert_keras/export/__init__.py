"""A champion to elsewhere: SavedModels for serving, the formats of Google and Hugging Face, and its card."""

from tibert_keras.export.against_hugging_face import check_loss, hugging_face_loss, require_transformers
from tibert_keras.export.card import write_card
from tibert_keras.export.convert import ConvertConfig, Proof, convert
from tibert_keras.export.fill_mask import FilledMask, fill_mask
from tibert_keras.export.saved_model import FillMask, SavedModelOfBest, export_saved_model

__all__ = [
    "ConvertConfig",
    "FillMask",
    "FilledMask",
    "Proof",
    "SavedModelOfBest",
    "check_loss",
    "convert",
    "export_saved_model",
    "fill_mask",
    "hugging_face_loss",
    "require_transformers",
    "write_card",
]
