"""Lets `fit()`, `evaluate()` and `predict()` of a task take strings and ids alike."""

import logging
import random
from functools import partial
from numbers import Integral
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.models.data_checks import (
    as_weights,
    check_batch,
    check_data,
    reporting_input_errors,
    with_checked_numbers,
)
from tibert_keras.models.devices import build_for_training, needs_full_batches, prepare_strategy, seed_of_all_workers
from tibert_keras.models.gradient_accumulation import check_batches
from tibert_keras.models.tibert_preprocessor import in_graph
from tibert_keras.models.training_data import (
    as_texts,
    batches_of,
    check_container,
    holds_ids,
    holds_strings,
    is_dataset,
    is_grain,
    is_stream,
    preprocessed,
    preprocessed_batch,
    split_off,
)

_LOG = logging.getLogger(__name__)


class TextInputs:
    """Precedes KerasHub's task class in the bases of ours.

    KerasHub neither shuffles lists nor takes ids where there is a preprocessor.
    """

    preprocessor: Any

    def preprocess_samples(self, x: Any, y: Any = None, sample_weight: Any = None, seed: Any = None) -> Any:
        """Preprocess a batch, unless it consists of ids."""
        if holds_ids(x):
            return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        return super().preprocess_samples(x, y, sample_weight)  # type: ignore[misc]

    def fit(
        self: Any,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        validation_split: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Train, as `keras.Model.fit`.

        Args:
            x: Strings, which the preprocessor turns into ids, or ids; as a list, an array, a `tf.data.Dataset` of
                batches, a generator or a `keras.utils.PyDataset`. Lists and arrays are shuffled anew in each epoch.
            y: The labels, unless `x` yields them or the preprocessor makes them.
            batch_size: Examples per step, 32 by default.
            sample_weight: The weight of each example.
            validation_data: As `x`, or a tuple `(x, y)` or `(x, y, sample_weight)`.
            validation_split: The share of the last examples to validate on.
            **kwargs: Other arguments of `keras.Model.fit`.

        Returns:
            The history.

        Raises:
            InputError: If there are strings without a preprocessor, or in a container that cannot be preprocessed, the
                ids, labels or weights do not fit (see `check_batch`), or the model is compiled in a way that fails.
        """
        prepare_strategy(self)
        if is_grain(x):
            kwargs |= {"validation_data": validation_data, "validation_split": validation_split}
            return super().fit(x, y, batch_size=batch_size, sample_weight=sample_weight, **kwargs)  # type: ignore[misc]
        if validation_split and validation_data is None and holds_strings(x):
            (x, y, sample_weight), validation_data = split_off(x, y, sample_weight, validation_split)
            validation_split = None
        shuffle = kwargs.pop("shuffle", True)
        data = self._prepared(x, y, sample_weight, batch_size, shuffle=shuffle, training=True)
        check_batches(self, data["x"], data["batch_size"], validation_split or 0.0)
        if validation_data is not None:
            size = kwargs.get("validation_batch_size") or batch_size
            of_validation = self._prepared(*_parts(validation_data), batch_size=size)
            parts = tuple(of_validation[name] for name in ("x", "y", "sample_weight"))
            kwargs["validation_data"] = parts[0] if is_stream(parts[0]) else parts
        # Keras warns that it does not shuffle a dataset. Batches that were made of lists are shuffled already.
        shuffle = shuffle and not is_dataset(x) and is_stream(x) == is_stream(data["x"])
        build_for_training(self, data)
        with reporting_input_errors():
            return keras.Model.fit(self, **data, shuffle=shuffle, validation_split=validation_split or 0.0, **kwargs)

    def evaluate(
        self: Any, x: Any = None, y: Any = None, batch_size: int | None = None, sample_weight: Any = None, **kwargs: Any
    ) -> Any:
        """Compute loss and metrics, as `keras.Model.evaluate`, with the inputs and errors of `fit`."""
        prepare_strategy(self)
        if is_grain(x):
            return super().evaluate(x, y, batch_size, sample_weight, **kwargs)  # type: ignore[misc]
        if kwargs.get("_use_cached_eval_dataset"):
            # From `fit`, which has prepared the data.
            data = {"x": x, "y": y, "batch_size": batch_size, "sample_weight": sample_weight}
        else:
            data = self._prepared(x, y, sample_weight, batch_size)
        with reporting_input_errors():
            return keras.Model.evaluate(self, **data, **kwargs)

    def predict(self: Any, x: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Return the outputs, as `keras.Model.predict`, with the inputs and errors of `fit`."""
        prepare_strategy(self)
        if is_grain(x):
            return super().predict(x, batch_size, **kwargs)  # type: ignore[misc]
        data = self._prepared(x, None, None, batch_size, targets=False)
        with reporting_input_errors():
            return keras.Model.predict(self, data["x"], batch_size=data["batch_size"], **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Train on one batch, as `keras.Model.train_on_batch`, with the errors of `fit`."""
        return keras.Model.train_on_batch(self, *self._batch(x, y, sample_weight), **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Evaluate one batch, as `keras.Model.test_on_batch`, with the errors of `fit`."""
        return keras.Model.test_on_batch(self, *self._batch(x, y, sample_weight), **kwargs)

    def predict_on_batch(self, x: Any, **kwargs: Any) -> Any:
        """Return the outputs of one batch, as `keras.Model.predict_on_batch`, with the errors of `fit`."""
        return keras.Model.predict_on_batch(self, self._batch(x, targets=False)[0], **kwargs)

    def _batch(self, x: Any, y: Any = None, sample_weight: Any = None, *, targets: bool = True) -> Any:
        prepare_strategy(self)
        # Not packed without labels: a tuple of texts would look like one.
        seed = self._next_seed() if holds_strings(x) else 0
        batch = preprocessed_batch((x, y, sample_weight), partial(self._preprocessed, targets=targets), seed)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        return keras.tree.map_structure(
            lambda part: None if part is None else keras.ops.convert_to_tensor(part), (x, *_as_arrays(y, sample_weight))
        )

    def _preprocessed(self, x: Any, y: Any, sample_weight: Any, seed: Any, *, targets: bool) -> Any:
        """Preprocess and, in Python, check a batch; a batch of ids is only checked."""
        if not holds_strings(x):
            check_batch(self, x, y, sample_weight, targets=targets)
            return None
        self._check_tokenizer()
        outputs = self.preprocess_samples(x, y, sample_weight, seed)
        if not in_graph():
            check_batch(self, *keras.utils.unpack_x_y_sample_weight(outputs), targets=targets)
        return outputs

    def _prepared(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        *,
        shuffle: bool = False,
        training: bool = False,
        targets: bool = True,
    ) -> dict[str, Any]:
        """Return the arguments `x`, `y`, `sample_weight` and `batch_size` of Keras's `fit`, with ids for strings."""
        if batch_size is not None and (not isinstance(batch_size, Integral) or batch_size < 1):
            raise InputError(
                f"A batch has one example or more. Received: batch_size={batch_size!r}. Give their number."
            )
        if not is_stream(x):
            check_container(x)
        if holds_strings(x):
            self._check_tokenizer()
            data = self._prepared_texts(x, y, sample_weight, batch_size, shuffle=shuffle, training=training)
        else:
            y, sample_weight = _as_arrays(y, sample_weight)
            data = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size}
        if is_stream(x):
            seed = 0 if self.preprocessor is None else seed_of_all_workers(self, self._next_seed())
            # Not a local function: the processes of a `PyDataset` receive it by pickle.
            preprocess = partial(self._preprocessed, targets=targets)
            data["x"] = preprocessed(x, preprocess, seed=seed, anew=training)
        check_data(self, data, targets=targets)
        if is_dataset(x):
            data["x"] = with_checked_numbers(self, data["x"], targets=targets)
        return data

    def _check_tokenizer(self) -> None:
        if self.preprocessor is None:
            raise InputError("The model has no tokenizer and takes only ids. Received: strings. Pass a preprocessor.")

    def _prepared_texts(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int | None, *, shuffle: bool, training: bool
    ) -> dict[str, Any]:
        """Do the same for strings in a list or an array, batch by batch."""
        if y is not None or sample_weight is not None:
            _LOG.warning("labels and weights given with strings are ignored: the masks make them")
        seed, drop = seed_of_all_workers(self, self._next_seed()), training and needs_full_batches(self)
        texts = as_texts(x)
        texts = batches_of(texts, batch_size=batch_size or 32, shuffle=shuffle, seed=seed, drop_remainder=drop)
        x = preprocessed(texts, self.preprocess_samples, seed=seed, anew=training)
        return {"x": x, "y": None, "sample_weight": None, "batch_size": None}

    def _next_seed(self) -> int:
        """Draw a seed for the order of the data and the randomness of preprocessing."""
        return random.getrandbits(32)


def _parts(data: Any) -> tuple[Any, ...]:
    """Split validation data into `x`, `y` and `sample_weight`, as far as it has them."""
    if isinstance(data, tuple | list) and data and not isinstance(data[0], str):
        if len(data) > 3:
            raise InputError(
                f"Validation data are x, y and sample_weight. Received: {len(data)} parts. Give (x, y) or three."
            )
        return tuple(data)
    return (data,)


def _as_arrays(y: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Return labels and weights in lists as arrays. To Keras a list has a part for each of several outputs."""
    return (
        np.asarray(y) if isinstance(y, list) else y,
        as_weights(sample_weight) if isinstance(sample_weight, list) else sample_weight,
    )
