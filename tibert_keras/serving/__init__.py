"""SavedModels behind an HTTP server, with a page."""
