"""Turns the data given to `fit()`, strings in any container, into data that Keras trains on."""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.tokenizers.bounds import check_unicode

# Preprocesses `x`, `y` and `sample_weight` of a batch with a seed, or None.
Preprocess = Callable[[Any, Any, Any, Any], Any]


def holds_ids(x: Any) -> bool:
    """Return whether a batch is one that the models take as it is."""
    return isinstance(x, Mapping) and "token_ids" in x


def holds_strings(values: Any) -> bool:
    """Return whether the first of nested values is a string, they are a tensor of strings, or there are none."""
    while isinstance(values, list | tuple) and values:
        values = values[0]
    if hasattr(values, "to_numpy"):
        # A pandas Series.
        values = values.to_numpy()
    if isinstance(values, np.ndarray):
        return (
            not values.size
            or values.dtype.kind in "US"
            or (values.dtype == object and any(map(holds_strings, values.flat)))
        )
    return isinstance(values, str | bytes | list | tuple) or "string" in str(getattr(values, "dtype", ""))


def is_stream(x: Any) -> bool:
    """Return whether `x` yields batches: a dataset, a generator, or a loader."""
    if is_dataset(x) or isinstance(x, keras.utils.PyDataset | GeneratorType):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.utils.data.DataLoader)


def is_dataset(x: Any) -> bool:
    """Return whether `x` is a `tf.data.Dataset`."""
    return hasattr(x, "element_spec") and hasattr(x, "map")


def is_grain(x: Any) -> bool:
    """Return whether `x` is a dataset of Grain, which KerasHub preprocesses."""
    return type(x).__module__.partition(".")[0] == "grain"


def check_container(x: Any, *, of_texts: bool = False) -> None:
    """Refuse data that Keras does not take, and would show in full: without order or length, or strings by name.

    With `of_texts`, anything by name and anything that yields batches are refused too.
    """
    strings_by_name = isinstance(x, Mapping) and not holds_ids(x) and any(map(holds_strings, x.values()))
    no_texts = of_texts and (is_stream(x) or isinstance(x, Mapping))
    if x is None or isinstance(x, Iterator | Set) or strings_by_name or no_texts:
        raise InputError(f"Texts come in a list, an array or a tensor. Received: {type(x).__name__}. Give list(texts).")


def is_empty(x: Any) -> bool:
    """Return whether data of a known length have none."""
    try:
        return len(x) == 0
    except TypeError:
        return False


def as_lists(x: Any) -> Any:
    """Return strings in arrays, tensors, series and tuples of segments as lists of `str`."""
    if isinstance(x, tuple):
        return tuple(map(as_lists, x))
    if hasattr(x, "to_list"):
        # A pandas Series, or a ragged tensor.
        x = x.to_list()
    elif hasattr(x, "__array__") and not isinstance(x, str):
        x = np.asarray(x).tolist()
    if isinstance(x, list):
        return list(map(as_lists, x))
    # `as_texts` refuses what is no UTF-8.
    return x.decode(errors="surrogateescape") if isinstance(x, bytes) else x


def as_texts(x: Any, *, of_words: bool = False) -> Any:
    """Return a batch of strings, in any container, as a list of `str`, or as a tuple of lists of segments.

    With `of_words`, a text may be a list of words. An `InputError` is raised for no strings, a single one, other things
    among them, texts that are no Unicode, and lists of segments of different lengths.
    """
    check_container(x, of_texts=True)
    texts = as_lists(x)
    if isinstance(texts, str) or (isinstance(texts, tuple) and any(isinstance(each, str) for each in texts)):
        raise InputError(
            f"Texts come in a list, or in a tuple of lists side by side. Received: {texts!r:.80}. Give [text]."
        )
    if not len(texts[0] if isinstance(texts, tuple) and texts else texts):
        raise InputError("There are no texts. Received: an empty list. Give some.")
    lists = texts if isinstance(texts, tuple) else (texts,)
    items = keras.tree.flatten(texts) if of_words else list(itertools.chain(*lists))
    if others := [each for each in items if not isinstance(each, str)]:
        raise InputError(f"A text is not a string. Received: {others[0]!r:.80}. Leave it out.")
    for each in items:
        check_unicode(each)
    if len(set(map(len, lists))) > 1 and not of_words:
        sizes = [len(each) for each in lists]
        raise InputError(
            f"Texts side by side come in lists of one length. Received: lists of {sizes} texts. Give as many of each."
        )
    return texts


def split_off(x: Any, y: Any, sample_weight: Any, fraction: float) -> tuple[Any, Any]:
    """Split the last texts off, as Keras's `validation_split` does: into two tuples `(x, y, sample_weight)`."""
    x = as_texts(x, of_words=True)
    size = len(x[0]) if isinstance(x, tuple) else len(x)
    start = int(size * (1 - fraction))
    if not 0 < start < size:
        raise InputError(
            f"Nothing is left to train or to validate on. Received: {size} texts, validation_split={fraction}."
        )

    def part(values: Any, where: slice) -> Any:
        if isinstance(values, tuple):
            return tuple(each[where] for each in values)
        return None if values is None else values[where]

    first, second = slice(start), slice(start, None)
    return tuple(tuple(part(values, where) for values in (x, y, sample_weight)) for where in (first, second))  # type: ignore[return-value]


# === Batches ===


def batches_of(x: Any, *, batch_size: int, shuffle: bool, seed: int, drop_remainder: bool = False) -> Any:
    """Make batches of texts, or of a tuple of lists of segments, which may be shuffled anew in each epoch.

    They are a `tf.data.Dataset` on TensorFlow, and a `PyDataset` on other backends.
    """
    size = len(x[0] if isinstance(x, tuple) else x)
    if drop_remainder and size < batch_size:
        raise InputError(
            f"A TPU takes whole batches only. Received: {size} texts, batch_size={batch_size}. Give a smaller batch."
        )
    if keras.backend.backend() != "tensorflow":
        rng = np.random.default_rng(seed) if shuffle else None
        return _TextBatches(x, size, batch_size, rng, drop_remainder=drop_remainder)
    texts = tf.data.Dataset.from_tensor_slices((x,) if isinstance(x, tuple) else x)
    if shuffle:
        texts = texts.shuffle(size, seed=seed)
    return texts.batch(batch_size, drop_remainder=drop_remainder)


class _TextBatches(keras.utils.PyDataset):
    """Batches of texts, `(x,)`, in an order that is drawn anew in each epoch if there is a generator."""

    def __init__(
        self, x: Any, size: int, batch_size: int, rng: np.random.Generator | None, *, drop_remainder: bool
    ) -> None:
        super().__init__()
        self._x, self._order, self._batch_size, self._rng = x, np.arange(size), batch_size, rng
        self._num_batches = size // batch_size if drop_remainder else -(-size // batch_size)
        self.on_epoch_end()

    @property
    def num_batches(self) -> int:
        return self._num_batches

    def __getitem__(self, index: int) -> Any:
        chosen = self._order[index * self._batch_size :][: self._batch_size]
        if isinstance(self._x, tuple):
            return (tuple([segments[number] for number in chosen] for segments in self._x),)
        return ([self._x[number] for number in chosen],)

    def on_epoch_end(self) -> None:
        if self._rng is not None:
            self._order = self._rng.permutation(len(self._order))


def preprocessed(x: Any, preprocess: Preprocess, *, seed: int, anew: bool) -> Any:
    """Preprocess each batch of a stream: of a dataset, a `PyDataset`, a generator or a loader.

    Batches are `x`, `(x, y)` or `(x, y, sample_weight)`. The function is also given batches of ids, to check them; a
    dataset or a loader of ids is returned as it is. The seeds that the function gets follow from `seed`, and differ in
    each epoch if `anew`.
    """
    if is_dataset(x):
        return _preprocessed_dataset(x, preprocess, seed, anew)
    if isinstance(x, keras.utils.PyDataset):
        return _PreprocessedBatches(x, preprocess, seed, anew)
    if isinstance(x, GeneratorType):
        return (preprocessed_batch(batch, preprocess, (seed + number) % 2**32) for number, batch in enumerate(x))
    batch = next(iter(x))
    if holds_strings(batch[0] if isinstance(batch, list | tuple) else batch):
        raise InputError(
            f"A loader of strings cannot be preprocessed. Received: {type(x).__name__}. "
            "Give a list of strings, a tf.data.Dataset, a generator or a keras.utils.PyDataset."
        )
    return x


def _preprocessed_dataset(dataset: Any, preprocess: Preprocess, seed: int, anew: bool) -> Any:
    features, _, _ = keras.utils.unpack_x_y_sample_weight(dataset.element_spec)
    specs = keras.tree.flatten(features)
    if holds_ids(features) or not any("string" in str(getattr(spec, "dtype", "")) for spec in specs):
        return dataset
    if any(spec.shape.rank == 0 for spec in specs):
        raise InputError("A dataset must consist of batches. Received: single strings. Give dataset.batch(32).")
    # Not from the order in which parallel calls happen to run.
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=anew)

    # AutoGraph would hide an `InputError` in one of its own.
    @tf.autograph.experimental.do_not_convert
    def call(batch: Any, seed: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        outputs = preprocess(x, y, sample_weight, seed)
        size = specs[0].shape[:1]
        if not all(part.shape[:1].is_compatible_with(size) for part in keras.tree.flatten(outputs)):
            shapes = [part.shape.as_list() for part in keras.tree.flatten(batch)]
            raise InputError(
                f"Labels and weights do not fit the texts. Received: batches of shapes {shapes}. Give one for each; "
                "with tags, a text is a list of words."
            )
        # Tokenizing forgets it, and a TPU must know it.
        return keras.tree.map_structure(lambda part: tf.ensure_shape(part, size + part.shape[1:]), outputs)

    batches = tf.data.Dataset.zip((dataset, seeds))
    return batches.map(call, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def preprocessed_batch(batch: Any, preprocess: Preprocess, seed: int) -> Any:
    """Preprocess one batch in Python, `x`, `(x, y)` or `(x, y, sample_weight)`, to a tuple of arrays.

    A batch of ids is returned as it is.
    """
    if isinstance(batch, tuple) and not all(isinstance(each, str) for each in batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    else:
        x, y, sample_weight = batch, None, None
    if not holds_strings(x):
        check_container(x)
        preprocess(x, y, sample_weight, seed)
        return batch
    x, y = as_texts(x, of_words=True), as_lists(y) if holds_strings(y) else y
    outputs = preprocess(x, y, sample_weight, seed)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


class _PreprocessedBatches(keras.utils.PyDataset):
    """The batches of another `PyDataset`, preprocessed."""

    def __init__(self, batches: keras.utils.PyDataset, preprocess: Preprocess, seed: int, anew: bool) -> None:
        super().__init__(
            workers=batches.workers,
            use_multiprocessing=batches.use_multiprocessing,
            max_queue_size=batches.max_queue_size,
        )
        self._batches, self._preprocess, self._seed = batches, preprocess, seed
        self._epoch, self._anew = 0, anew

    @property
    def num_batches(self) -> int | None:
        return self._batches.num_batches

    def __getitem__(self, index: int) -> Any:
        seed = int(np.random.default_rng((self._seed, self._epoch, index)).integers(2**32))
        return preprocessed_batch(self._batches[index], self._preprocess, seed)

    def on_epoch_begin(self) -> None:
        self._batches.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._epoch += self._anew
        self._batches.on_epoch_end()
