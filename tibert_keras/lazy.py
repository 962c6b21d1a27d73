"""TensorFlow, imported when it is first used: that takes seconds, and JAX needs none."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf
else:

    class _TensorFlow:
        def __getattr__(self, name: str) -> Any:
            # Tools that look at the globals of modules ask for such names.
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(importlib.import_module("tensorflow"), name)

    tf = _TensorFlow()
