"""Uses models on text: fills gaps, tags words and cuts sentences."""
