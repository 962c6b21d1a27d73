"""Text to token ids: SentencePiece training, and the tokenizer."""
