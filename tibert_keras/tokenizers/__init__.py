"""Sections to token ids: SentencePiece training and the tokenizer."""

from tibert_keras.tokenizers.tibert_tokenizer import TibertTokenizer
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

__all__ = ["TibertTokenizer", "TokenizerConfig", "train_tokenizer"]
