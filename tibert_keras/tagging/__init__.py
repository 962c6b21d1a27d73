"""Tagged text: words and their parts of speech, read, prepared, cut into windows, scored and written."""
