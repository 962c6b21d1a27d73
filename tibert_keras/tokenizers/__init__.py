"""SentencePiece without Keras: training a model, and encoding text with it."""
