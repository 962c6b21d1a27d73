"""The command line: `tibert VERB`."""
