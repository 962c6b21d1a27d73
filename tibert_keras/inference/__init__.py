"""Models at work on text: filling gaps, tagging, segmenting."""
