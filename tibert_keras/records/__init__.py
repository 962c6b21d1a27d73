"""Text files to TFRecords of masked examples, and those to batches."""
