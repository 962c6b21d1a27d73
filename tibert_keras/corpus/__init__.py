"""Editions of the canon to text files: documents of sections, one section a line."""
