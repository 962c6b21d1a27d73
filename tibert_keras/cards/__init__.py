"""The card of a run: what it recorded, as a document."""
