"""The card of a run: a document made from its files."""
