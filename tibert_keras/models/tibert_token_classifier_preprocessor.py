"""Turns raw strings, or words with their tags, into batches of syllables for `TibertTokenClassifier`."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_nlp
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.models.data_checks import as_weights
from tibert_keras.models.tibert_classifier_preprocessor import TibertClassifierPreprocessor
from tibert_keras.models.tibert_preprocessor import check_packing, is_tensorflow
from tibert_keras.models.tibert_tokenizer import TibertTokenizer, as_tibert_tokenizer
from tibert_keras.tagging.packing import PackedSyllables, join_syllables, pack_syllables
from tibert_keras.tagging.words import CONTINUATION, TaggedWord, split_syllables, syllable_labels


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTokenClassifierPreprocessor(TibertClassifierPreprocessor, keras_nlp.models.Preprocessor):
    """Splits text into syllables, tokenizes and packs them, and labels each syllable.

    The first syllable of a word has the word's tag, the others `CONT`, so a tagger learns to find words and to tag them
    at once. The label is that of the syllable's first piece; its other pieces have weight 0. No piece crosses a
    syllable's end. Sequences are truncated to `sequence_length`.

    Args:
        tokenizer: A `TibertTokenizer`. One without `tsheg_pretokenization` is replaced by one with it, of the same
            vocabulary and without sampling.
        labels: list of str. The tags, in the order of the classifier's classes. Without `CONT` among them, words are
            not learned: each syllable is tagged as a word, and only the first of each word counts in training.
        sequence_length: int. Length of every sequence, [CLS], [SEP] and padding included.
        class_weight: dict or `None`. The weights of labels other than 1, by label; they count in evaluation too.

    Call arguments:
        x: Sentences as lists of words (in a graph, a ragged tensor); or, without labels, whole texts.
        y: The tags of the words, of the same lengths.
        sample_weight: The weight of each sentence, or `None`.

    Returns:
        `x`, or `(x, y, sample_weight)`: `x` has `token_ids`, `padding_mask` and `segment_ids`; `y` holds the numbers
        of the labels, and `sample_weight` is 0 where there is no label. All have the shape
        `[batch, sequence_length]`.

    Raises:
        InputError: If a sentence is empty, its tags are not as many as its words, a tag is not among the labels, or a
            word ends within a syllable.

    Example:
    ```python
    preprocessor = tibert_keras.TibertTokenClassifierPreprocessor(
        tibert_keras.TibertTokenizer("spiece.model"), labels=["NOUN", "PUNCT", "CONT"]
    )
    x, y, sample_weight = preprocessor([["བཀྲ་ཤིས", "།"]], [["NOUN", "PUNCT"]])
    ```
    """

    continuation = CONTINUATION
    labels: list[str]

    def __init__(
        self,
        tokenizer: TibertTokenizer,
        labels: Sequence[str] | None = None,
        sequence_length: int = 128,
        class_weight: Mapping[str | int, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if labels is None:
            raise InputError("A tagger needs the names of its tags. Received: labels=None. Give them.")
        super().__init__(labels=labels, class_weight=class_weight, **kwargs)
        check_packing(sequence_length)
        self.tokenizer = as_tibert_tokenizer(tokenizer)
        if not self.tokenizer.tsheg_pretokenization:
            underlines = self.tokenizer.underline_between_sections
            self.tokenizer = TibertTokenizer(
                self.tokenizer.proto, tsheg_pretokenization=True, underline_between_sections=underlines
            )
        self.sequence_length = sequence_length
        # There is nothing to build at the first call.
        self.built = True

    def call(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Preprocess a batch, in Python or in a graph."""
        if is_tensorflow(x):
            return self._call_in_graph(x, y, sample_weight)
        sentences, unbatched = _sentences(x, words=y is not None)
        if y is None:
            outputs: Any = self.pack(["".join(words) for words in sentences]).inputs
        else:
            tags = [y] if unbatched else list(y)
            weights = np.ones(len(tags)) if sample_weight is None else as_weights(sample_weight).reshape(-1)
            _check_lengths(sentences, tags, weights, unbatched=unbatched)
            outputs = self._label(sentences, tags, weights)
        return keras.tree.map_structure(lambda array: array[0], outputs) if unbatched else outputs

    def pack(self, texts: Sequence[str]) -> PackedSyllables:
        """Split texts into syllables and pack their pieces, with the positions of the syllables in the sequences."""
        return self.pack_syllables([split_syllables(text) for text in texts])

    def pack_syllables(self, syllables: Sequence[Sequence[str]]) -> PackedSyllables:
        """Pack the pieces of texts that are split into syllables, as `split_syllables` does it."""
        return pack_syllables(self.tokenizer, syllables, self.sequence_length)

    def join(self, syllables: Sequence[str], scores: np.ndarray) -> list[TaggedWord]:
        """Join syllables into words, as `join_syllables`, by their logits or probabilities `[syllables, labels]`."""
        return join_syllables(syllables, scores, self.labels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sequence_length": self.sequence_length}

    def _label(self, sentences: list[list[str]], tags: Sequence[Sequence[str]], weights: Any) -> tuple[Any, Any, Any]:
        packed = self.pack(["".join(words) for words in sentences])
        y = np.zeros(packed.inputs["token_ids"].shape, "int32")
        sample_weight = np.zeros(y.shape, "float32")
        for row, (words, of_words) in enumerate(zip(sentences, tags, strict=True)):
            labels = _labels_of_syllables(words, of_words)
            learned = [n for n, label in enumerate(labels) if label != CONTINUATION or CONTINUATION in self.labels]
            positions, ids = packed.positions[row][learned], self.label_ids([labels[n] for n in learned])
            positions, ids = positions[positions >= 0], ids[positions >= 0]
            y[row, positions] = ids
            sample_weight[row, positions] = self.label_weights[ids] * weights[row]
        return packed.inputs, y, sample_weight

    def _call_in_graph(self, x: Any, y: Any, sample_weight: Any) -> Any:
        """Run `call` on tensors: a text, texts, or ragged words; with tags, also the words of a single sentence."""
        unbatched = x.shape.rank == (0 if y is None else 1)
        if unbatched:
            x, y = x[tf.newaxis], None if y is None else y[tf.newaxis]
        arguments = _parts(x[:, tf.newaxis] if x.shape.rank == 1 else x)
        if y is not None:
            weights = tf.ones(tf.size(arguments[1]) - 1) if sample_weight is None else sample_weight
            arguments += [*_parts(y), tf.reshape(weights, [-1])]
        labels = [] if y is None else [tf.int32, tf.float32]
        outputs = self.run_in_python(self._of_parts, arguments, [tf.int32, tf.int32, tf.int32, *labels])
        outputs = [tf.ensure_shape(output, [None, self.sequence_length]) for output in outputs]
        token_ids, padding_mask, segment_ids, *labels = [output[0] for output in outputs] if unbatched else outputs
        inputs = {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
        return (inputs, *labels) if labels else inputs

    def _of_parts(self, words: Any, splits: Any, *labels: Any) -> list[Any]:
        """Run `call` on the parts of ragged tensors, in Python."""
        sentences = _rows(words, splits)
        if not labels:
            return list(self.pack(["".join(sentence) for sentence in sentences]).inputs.values())
        tags, tag_splits, weights = labels
        inputs, y, sample_weight = self._label(sentences, _rows(tags, tag_splits), weights)
        return [*inputs.values(), y, sample_weight]


def _check_lengths(sentences: Sequence[Any], tags: Sequence[Any], weights: np.ndarray, *, unbatched: bool) -> None:
    """Check that there are as many sentences as lists of tags and weights, and that a sentence is no list of texts."""
    if unbatched and len(tags[0]) and not isinstance(tags[0][0], str):
        raise InputError(
            "With tags, a sentence is a list of words. "
            f"Received: the text {sentences[0][0][:40]!r} with {tags[0][0]!r}. Cut texts into words."
        )
    if len(tags) != len(sentences) or len(weights) != len(sentences):
        raise InputError(
            f"Each sentence needs its tags, and one weight if there are any. Received: {len(sentences)} sentences and "
            f"{len(tags)} lists of tags, {len(weights)} weights. Give as many of each."
        )


def _labels_of_syllables(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        shown = " ".join(repr(tags).split())[:60]
        raise InputError(
            f"The tags of a sentence are a list of names. Received: {shown}, for {''.join(words)[:40]!r}. "
            "Give the name of a tag for each word."
        )
    if len(words) != len(tags):
        raise InputError(
            "Each word needs a tag. "
            f"Received: {len(words)} words and {len(tags)} tags, in {''.join(words)[:40]!r}. Give as many of both."
        )
    if not "".join(words).strip():
        raise InputError(f"A sentence is empty. Received: words={list(words)}. Leave it out.")
    return syllable_labels([TaggedWord(word, tag) for word, tag in zip(words, tags, strict=True)])


def _sentences(x: Any, *, words: bool) -> tuple[list[list[str]], bool]:
    """Return a batch of sentences, a text being one of a single word, and whether `x` was a single sentence."""
    rows = x.tolist() if isinstance(x, np.ndarray) else x
    if isinstance(rows, str):
        return [[rows]], True
    if words and rows and isinstance(rows[0], str):
        return [list(rows)], True
    return [[row] if isinstance(row, str) else list(row) for row in rows], False


def _parts(ragged: Any) -> list[Any]:
    """Return the values and row splits of a tensor `[batch, (words)]`."""
    if isinstance(ragged, tf.Tensor):
        ragged = tf.RaggedTensor.from_tensor(ragged)
    return [ragged.flat_values, ragged.row_splits]


def _rows(values: np.ndarray, splits: np.ndarray) -> list[list[str]]:
    words = [value.decode() for value in values]
    return [words[start:end] for start, end in zip(splits[:-1], splits[1:], strict=True)]
