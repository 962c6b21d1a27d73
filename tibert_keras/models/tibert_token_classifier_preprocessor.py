"""Raw strings, or words with their tags, to batches of syllables for `TibertTokenClassifier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import keras_nlp
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.models.labels import check_labels, label_ids, named_weights
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.tagging.words import CONTINUATION, TaggedWord, split_syllables, syllable_labels


class PackedSyllables(NamedTuple):
    """Texts as a token classifier takes them.

    Attributes:
        inputs: `token_ids`, `padding_mask` and `segment_ids`, `[batch, sequence_length]`.
        syllables: The syllables of each text, which joined are the text.
        positions: Of each text, where each syllable's first piece stands in the sequence, int `[syllables]`; -1 for
            one that has none, or none within the sequence.
        lengths: How many tokens each text has, with [CLS] and [SEP], and with those that were cut off.
    """

    inputs: dict[str, np.ndarray]
    syllables: list[list[str]]
    positions: list[np.ndarray]
    lengths: list[int]


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTokenClassifierPreprocessor(keras_nlp.models.Preprocessor):
    """Cuts text into syllables, tokenizes and packs it, and gives each syllable the label that it is to be tagged with.

    The first syllable of a word has the word's tag, the others `CONT`: a tagger learns to find the words and to tag
    them at once. The label stands at the first piece of a syllable, and the other pieces weigh 0. No piece crosses two
    syllables. What goes beyond `sequence_length` is cut off.

    Args:
        tokenizer: A `TibertTokenizer`. One without `tsheg_pretokenization` is replaced by one with it, of the same
            vocabulary; that one does not sample.
        labels: list of str. The tags, in the order of the classifier's classes. With `CONT` among them words are
            learned too; without it each syllable is a word when text is tagged, and all but the first of a word weigh
            0 in training.
        sequence_length: int. Length of every sequence, [CLS], [SEP] and padding included.
        class_weight: dict or `None`. What a label weighs, by label, where it is not 1; in evaluation too.

    Call arguments:
        x: Words, a list of strings a sentence (in a graph a ragged tensor); or, without labels, whole texts.
        y: The tags of the words, of the same lengths.
        sample_weight: What each sentence weighs, or `None`.

    Returns:
        `x`, or `(x, y, sample_weight)`: `x` has `token_ids`, `padding_mask` and `segment_ids`; `y` holds numbers of
        labels and `sample_weight` is 0 where there is none. All have the shape `[batch, sequence_length]`.

    Raises:
        InputError: If a sentence is empty, has another number of tags than of words, a tag is not among the labels, or
            a word ends in the middle of a syllable.

    Example:
    ```python
    preprocessor = tibert_keras.TibertTokenClassifierPreprocessor(
        tibert_keras.TibertTokenizer("spiece.model"), labels=["NOUN", "PUNCT", "CONT"]
    )
    x, y, sample_weight = preprocessor([["བཀྲ་ཤིས", "།"]], [["NOUN", "PUNCT"]])
    ```
    """

    backbone_cls = TibertBackbone
    tokenizer_cls = TibertTokenizer
    continuation = CONTINUATION

    def __init__(
        self,
        tokenizer: TibertTokenizer,
        labels: Sequence[str],
        sequence_length: int = 128,
        class_weight: Mapping[str | int, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sequence_length < 3:
            raise InputError(f"A sequence needs room for a token. Received: sequence_length={sequence_length}.")
        self.tokenizer = _for_syllables(tokenizer)
        self.labels = check_labels(labels)
        self.sequence_length = sequence_length
        self.class_weight = named_weights(class_weight, self.labels)
        # Nothing waits for the first call.
        self.built = True

    def call(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Preprocess a batch, in Python or in a graph."""
        if type(x).__module__.startswith("tensorflow"):
            return self._call_in_graph(x, y, sample_weight)
        sentences, unbatched = _sentences(x, words=y is not None)
        if y is None:
            outputs: Any = self.pack(["".join(words) for words in sentences]).inputs
        else:
            tags = [y] if unbatched else list(y)
            weights = np.ones(len(tags)) if sample_weight is None else np.reshape(sample_weight, -1)
            _check_lengths(sentences, tags, weights, unbatched=unbatched)
            outputs = self._label(sentences, tags, weights)
        return keras.tree.map_structure(lambda array: array[0], outputs) if unbatched else outputs

    def pack(self, texts: Sequence[str]) -> PackedSyllables:
        """Cut texts into syllables, and pack their pieces.

        Args:
            texts: Any strings.

        Returns:
            The sequences, and where the syllables are in them.
        """
        syllables = [split_syllables(text) for text in texts]
        pieces = self.tokenizer.encode_syllables(syllables)
        token_ids = np.full((len(texts), self.sequence_length), self.tokenizer.pad_token_id, "int32")
        padding_mask = np.zeros(token_ids.shape, bool)
        positions, lengths = [], []
        for row, of_text in enumerate(pieces):
            ids = [piece for of_syllable in of_text for piece in of_syllable]
            lengths.append(len(ids) + 2)
            ids = ids[: self.sequence_length - 2]
            token_ids[row, : len(ids) + 2] = [self.tokenizer.cls_token_id, *ids, self.tokenizer.sep_token_id]
            padding_mask[row, : len(ids) + 2] = True
            counts = np.array([len(of_syllable) for of_syllable in of_text], int)
            starts = 1 + np.cumsum(counts) - counts
            positions.append(np.where((counts > 0) & (starts <= len(ids)), starts, -1))
        inputs = {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": np.zeros_like(token_ids)}
        return PackedSyllables(inputs, syllables, positions, lengths)

    def join(self, syllables: Sequence[str], scores: np.ndarray) -> list[TaggedWord]:
        """Put syllables together to words, by the likeliest label of each.

        Args:
            syllables: The syllables of a text.
            scores: Logits or probabilities, `[syllables, labels]`.

        Returns:
            The words, whose forms joined are the text. A text begins with a word whatever the scores.
        """
        words: list[TaggedWord] = []
        for syllable, row in zip(syllables, np.array(scores, "float32"), strict=True):
            if words and self.labels[row.argmax()] == CONTINUATION:
                words[-1] = TaggedWord(words[-1].form + syllable, words[-1].tag)
                continue
            if CONTINUATION in self.labels:
                row[self.labels.index(CONTINUATION)] = -np.inf
            words.append(TaggedWord(syllable, self.labels[row.argmax()]))
        return words

    def get_config(self) -> dict[str, Any]:
        class_weight = self.class_weight and dict(self.class_weight)
        own = {"labels": list(self.labels), "sequence_length": self.sequence_length, "class_weight": class_weight}
        return {**super().get_config(), **own}

    def _label(self, sentences: list[list[str]], tags: Sequence[Sequence[str]], weights: Any) -> tuple[Any, Any, Any]:
        """The batch of some sentences with their tags."""
        packed = self.pack(["".join(words) for words in sentences])
        class_weights = np.array([(self.class_weight or {}).get(label, 1) for label in self.labels], "float32")
        y = np.zeros(packed.inputs["token_ids"].shape, "int32")
        sample_weight = np.zeros(y.shape, "float32")
        known = self.labels if CONTINUATION in self.labels else [*self.labels, CONTINUATION]
        for row, (words, of_words) in enumerate(zip(sentences, tags, strict=True)):
            ids = label_ids(_labels_of_syllables(words, of_words), known)
            kept = (packed.positions[row] >= 0) & (ids < len(self.labels))
            positions, ids = packed.positions[row][kept], ids[kept]
            y[row, positions] = ids
            sample_weight[row, positions] = class_weights[ids] * weights[row]
        return packed.inputs, y, sample_weight

    def _call_in_graph(self, x: Any, y: Any, sample_weight: Any) -> Any:
        """The same of tensors: a text, texts, or ragged words; of words with tags a single sentence too."""
        import tensorflow as tf

        unbatched = x.shape.rank == (0 if y is None else 1)
        if unbatched:
            x, y = x[tf.newaxis], None if y is None else y[tf.newaxis]
        arguments = _parts(x[:, tf.newaxis] if x.shape.rank == 1 else x)
        if y is not None:
            weights = tf.ones(tf.size(arguments[1]) - 1) if sample_weight is None else sample_weight
            arguments += [*_parts(y), tf.reshape(weights, [-1])]
        labels = [] if y is None else [tf.int32, tf.float32]
        outputs = tf.numpy_function(self._of_parts, arguments, [tf.int32, tf.bool, tf.int32, *labels])
        outputs = [tf.ensure_shape(output, [None, self.sequence_length]) for output in outputs]
        token_ids, padding_mask, segment_ids, *labels = [output[0] for output in outputs] if unbatched else outputs
        inputs = {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
        return (inputs, *labels) if labels else inputs

    def _of_parts(self, words: Any, splits: Any, *labels: Any) -> list[Any]:
        """What `call` gives, of the parts of ragged tensors."""
        sentences = _rows(words, splits)
        if not labels:
            return list(self.pack(["".join(sentence) for sentence in sentences]).inputs.values())
        tags, tag_splits, weights = labels
        inputs, y, sample_weight = self._label(sentences, _rows(tags, tag_splits), weights)
        return [*inputs.values(), y, sample_weight]


def _for_syllables(tokenizer: TibertTokenizer) -> TibertTokenizer:
    """The tokenizer, or one of the same vocabulary whose pieces do not cross syllables."""
    if tokenizer.tsheg_pretokenization:
        return tokenizer
    return TibertTokenizer(
        tokenizer.proto,
        tsheg_pretokenization=True,
        underline_between_sections=tokenizer.underline_between_sections,
    )


def _check_lengths(sentences: Sequence[Any], tags: Sequence[Any], weights: np.ndarray, *, unbatched: bool) -> None:
    """Check that sentences, lists of tags and weights are as many, and that one sentence is not a list of texts."""
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
    if len(words) != len(tags):
        raise InputError(
            "Each word needs a tag. "
            f"Received: {len(words)} words and {len(tags)} tags, in {''.join(words)[:40]!r}. Give as many of both."
        )
    if not "".join(words).strip():
        raise InputError(f"A sentence is empty. Received: words={list(words)}. Leave it out.")
    return syllable_labels([TaggedWord(word, tag) for word, tag in zip(words, tags, strict=True)])


def _sentences(x: Any, *, words: bool) -> tuple[list[list[str]], bool]:
    """A batch of sentences, of one word each where whole texts are given; and whether it was a single one."""
    rows = x.tolist() if isinstance(x, np.ndarray) else x
    if isinstance(rows, str):
        return [[rows]], True
    if words and rows and isinstance(rows[0], str):
        return [list(rows)], True
    return [[row] if isinstance(row, str) else list(row) for row in rows], False


def _parts(ragged: Any) -> list[Any]:
    """The values and row splits of a tensor `[batch, (words)]`."""
    import tensorflow as tf

    if isinstance(ragged, tf.Tensor):
        ragged = tf.RaggedTensor.from_tensor(ragged)
    return [ragged.flat_values, ragged.row_splits]


def _rows(values: np.ndarray, splits: np.ndarray) -> list[list[str]]:
    words = [value.decode() for value in values]
    return [words[start:end] for start, end in zip(splits[:-1], splits[1:], strict=True)]
