"""Logits to updates: the optimizer, its learning rate, and the losses."""
