"""A champion to elsewhere: SavedModels for serving."""

from tibert_keras.export.fill_mask import FilledMask, fill_mask
from tibert_keras.export.saved_model import FillMask, SavedModelOfBest, export_saved_model

__all__ = ["FillMask", "FilledMask", "SavedModelOfBest", "export_saved_model", "fill_mask"]
