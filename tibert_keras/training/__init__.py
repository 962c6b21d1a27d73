"""Pretraining: from records to a champion."""
