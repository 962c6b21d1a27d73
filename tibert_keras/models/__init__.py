"""Strings to logits: the encoder, the tasks on it, and their preprocessors."""
