"""A SavedModel to answers: the HTTP server and its page."""

from tibert_keras.serving.config import ServeConfig
from tibert_keras.serving.server import serve

__all__ = ["ServeConfig", "serve"]
