"""Models as TensorFlow SavedModels that take strings."""
