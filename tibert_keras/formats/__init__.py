"""Checkpoints of Google's ALBERT, folders of transformers, and Keras presets, converted and proven."""
