"""Runs the command line as `python -m tibert_keras.cli`."""

import sys

from tibert_keras.cli.main import main

sys.exit(main())
