"""Words with their parts of speech: tagged corpora, their preparation, windows, scores and formats."""
