"""Callbacks for `fit()` with any model of this package, or of Keras's.

- `BestLoss` finds the best loss and remembers it over restarts.
- `SavedModelOfBest` writes a SavedModel of each new best.
- `SaveCheckpoints` saves checkpoints, from which `fit()` goes on in another process.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tibert_keras.saved_model.export import SavedModelOfBest
    from tibert_keras.training.callbacks import BestLoss, SaveCheckpoints

__all__ = ["BestLoss", "SaveCheckpoints", "SavedModelOfBest"]

# The module that defines each, imported on first use.
_MODULES = {
    "BestLoss": "training.callbacks",
    "SaveCheckpoints": "training.callbacks",
    "SavedModelOfBest": "saved_model.export",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"tibert_keras.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
