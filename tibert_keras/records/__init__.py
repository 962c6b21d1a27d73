"""Text files to TFRecord files of masked examples, and those to batches."""
