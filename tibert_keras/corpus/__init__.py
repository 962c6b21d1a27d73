"""Editions of the canon to text files: documents of sections, a section a line."""
