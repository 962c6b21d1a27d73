"""The folder of a run: its options, checkpoints, history and champion."""
