"""What every layer, model and serialisable object of ours is tested for, in one place."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops, tree

ON_JAX = keras.backend.backend() == "jax"
# Options of `compile`: tracing a graph takes longer than the few steps of a test to which it makes no difference; that
# a step is traced, once, `run_training_test` shows. JAX would compile each operation by itself.
EAGERLY = {"run_eagerly": not ON_JAX}


class TestCase:
    """Base of the tests of models and optimizers. Subclasses call the `run_*` checks that apply."""

    def assert_close(self, actual: Any, expected: Any, atol: float = 1e-6) -> None:
        """Nested tensors are equal to `atol`."""
        tree.assert_same_structure(actual, expected)
        for a, b in zip(tree.flatten(actual), tree.flatten(expected), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), rtol=0, atol=atol)

    def run_serialization_test(self, instance: Any) -> Any:
        """The config survives a round trip through Keras's serialisation; returns the copy."""
        config = keras.saving.serialize_keras_object(instance)
        copy = keras.saving.deserialize_keras_object(deepcopy(config))  # which changes its argument
        assert type(copy) is type(instance)
        assert keras.saving.serialize_keras_object(copy) == config
        return copy

    def run_layer_test(self, make: Callable[..., Any], inputs: Any, output_shape: Any, *, num_weights: int) -> None:
        """A layer or model serialises, gives the shapes, the same in `predict()`, and runs in bfloat16."""
        layer = make()
        outputs = layer(inputs)
        assert len(layer.weights) == num_weights
        assert tree.map_structure(lambda x: tuple(x.shape), outputs) == output_shape
        if isinstance(layer, keras.Model):
            layer.compile()
            self.assert_close(layer.predict(inputs, verbose=0), outputs, atol=1e-5)
        self.run_serialization_test(make())
        self.run_precision_test(make, inputs)

    def run_precision_test(self, make: Callable[..., Any], inputs: Any) -> None:
        """Under mixed precision the variables stay float32 and the outputs are finite and close."""
        reference, mixed = make(), make(dtype="mixed_bfloat16")
        assert {v.dtype for v in mixed.weights} == {"float32"}
        for variable, value in zip(mixed.weights, reference.weights, strict=True):
            variable.assign(value)
        outputs = tree.map_structure(lambda x: ops.cast(x, "float32"), mixed(inputs))
        self.assert_close(outputs, reference(inputs), atol=0.1)

    def run_model_saving_test(self, model: keras.Model, inputs: Any, folder: Path) -> keras.Model:
        """A `.keras` file restores the class, every weight and the outputs; returns the copy."""
        path = folder / "model.keras"
        model.save(path)
        copy = keras.saving.load_model(path)
        self._assert_copy(copy, model, inputs)
        return copy

    def run_preset_test(self, model: Any, inputs: Any, folder: Path, **kwargs: Any) -> Any:
        """`save_to_preset` and `from_preset` restore the class, every weight and the outputs."""
        model.save_to_preset(str(folder / "preset"))
        copy = type(model).from_preset(str(folder / "preset"), **kwargs)
        self._assert_copy(copy, model, inputs)
        fresh = type(model).from_preset(str(folder / "preset"), load_weights=False, **kwargs)
        kernels = [w for w in fresh.weights if w.path.endswith("/kernel")]
        originals = {w.path: w for w in model.weights}
        assert all(np.any(ops.convert_to_numpy(w != originals[w.path])) for w in kernels)
        return copy

    def run_training_test(self, model: keras.Model, data: tuple[Any, ...], *, jit_compile: bool | str = "auto") -> None:
        """`fit` lowers the loss, warns of nothing and traces the step once."""
        model.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=jit_compile)
        step, traces = model.train_step, []
        model.train_step = lambda *args: traces.append(1) or step(*args)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            history = model.fit(*data[:2], sample_weight=data[2], epochs=5, verbose=0, shuffle=False).history
        assert history["loss"][-1] < history["loss"][0]
        assert ON_JAX or len(traces) == 1

    def _assert_copy(self, copy: Any, model: Any, inputs: Any) -> None:
        assert type(copy) is type(model)
        for a, b in zip(copy.weights, model.weights, strict=True):
            assert a.path == b.path
            self.assert_close(a, b, atol=0)
        self.assert_close(copy(inputs), model(inputs))
