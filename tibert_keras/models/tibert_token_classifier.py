"""The token classifier, which finds words and their parts of speech."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import keras_nlp
import numpy as np
from keras import ops

from tibert_keras.errors import InputError
from tibert_keras.models.model_parts import check_parts
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_classifier import TibertClassifier, check_tibetan, with_labels
from tibert_keras.models.tibert_classifier_preprocessor import check_labels
from tibert_keras.models.tibert_task import PoolerNotTrained
from tibert_keras.models.tibert_token_classifier_preprocessor import TibertTokenClassifierPreprocessor
from tibert_keras.models.training_data import as_texts, is_empty
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss


class ScoredSyllables(NamedTuple):
    """The syllables that make a text, with the probabilities of their labels, float32 `[syllables, labels]`."""

    syllables: list[str]
    probabilities: np.ndarray


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTokenClassifier(PoolerNotTrained, TibertClassifier, keras_nlp.models.Task):
    """An ALBERT encoder that labels tokens: a tagger that also finds words, if `CONT` is a label.

    Inputs are integers of shape `[batch, sequence]`: `token_ids`, `segment_ids` and `padding_mask`. Outputs are
    logits, `[batch, sequence, num_classes]`. With a `TibertTokenClassifierPreprocessor`, `fit()` and `evaluate()` take
    sentences as lists of words with lists of their tags, and `predict_words()` takes raw strings.

    The loss is the mean cross-entropy over the labelled tokens, the first of each syllable, unless `compile()` is given
    another. The pooler is neither used nor trained.

    Args:
        backbone: A `TibertBackbone`.
        labels: The names of the classes, in the order of the logits.
        preprocessor: A `TibertTokenClassifierPreprocessor` of the same labels, or None if inputs are ids.
        dropout: The dropout rate before the last layer.
        **kwargs: `name`, `trainable` and `compile`.

    Raises:
        InputError: If the preprocessor has other labels.

    Example:
    ```python
    tagger = TibertTokenClassifier.from_preset("run/champion", labels=["ADP", "NOUN", "PUNCT", "CONT"])
    tagger.fit([["བཀྲ་ཤིས", "།"], ["ཆོས་", "ལ"]], [["NOUN", "PUNCT"], ["NOUN", "ADP"]], epochs=20)
    tagger.predict_words(["ཆོས་ལ།"])
    ```
    """

    preprocessor_cls = TibertTokenClassifierPreprocessor
    reads_words = True

    def __init__(
        self,
        backbone: TibertBackbone,
        labels: Sequence[str],
        preprocessor: Any = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_labels(labels)
        preprocessor = with_labels(preprocessor, labels)
        backbone = check_parts(backbone, preprocessor, kwargs)
        # === Layers ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.output_dropout = keras.layers.Dropout(dropout, dtype=backbone.dtype_policy, name="output_dropout")
        self.output_dense = keras.layers.Dense(
            len(labels),
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=backbone.dtype_policy,
            name="logits",
        )

        # === Functional Model ===
        outputs = self.output_dense(self.output_dropout(backbone(backbone.input)["sequence_output"]))
        super().__init__(inputs=backbone.input, outputs=outputs, **kwargs)

        # === Config ===
        self.labels = list(labels)
        self.num_classes = len(labels)
        self.dropout = dropout

    def _loss_and_metrics(self) -> tuple[Any, Any]:
        # As in `TibertMaskedLM`: a mean over the weights of the whole batch.
        return MaskedLanguageModelLoss(), [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def predict_words(self, texts: Sequence[str], batch_size: int = 32) -> list[list[Any]]:
        """Segment texts into words and tag them.

        Args:
            texts: Raw strings, each of at most as many tokens as the preprocessor's sequence length.
            batch_size: Texts per step.

        Returns:
            The words of each text, each with `form` and `tag`. Their forms, joined, are the text, spaces included.

        Raises:
            InputError: If a text is longer or only spaces, no text has a Tibetan letter, or there is no preprocessor.
        """
        return [self.preprocessor.join(*scored) for scored in self.predict_syllables(texts, batch_size)]

    def predict_syllables(self, texts: Sequence[str], batch_size: int = 32) -> list[ScoredSyllables]:
        """Split texts into syllables and compute the probabilities of their labels, as `predict_words` does.

        A syllable without tokens, such as spaces at the end, continues a word.
        """
        if self.preprocessor is None:
            raise InputError("The model has no tokenizer and takes only ids. Received: preprocessor=None. Pass one.")
        if is_empty(texts):
            return []
        texts = as_texts(texts)
        check_tibetan(texts)
        packed = self.preprocessor.pack(texts)
        most = self.preprocessor.sequence_length
        for text, length in zip(texts, packed.lengths, strict=True):
            if length <= 2:
                raise InputError(f"There is nothing to tag. Received: {text!r}. Give a text with syllables.")
            if length > most:
                raise InputError(
                    f"A text is longer than {most} tokens. Received: {length} tokens, in {text[:40]!r}. "
                    "Give it in parts."
                )
        logits = self.predict(packed.inputs, batch_size=batch_size, verbose=0)
        probabilities = ops.convert_to_numpy(ops.softmax(ops.cast(logits, "float32")))
        return [
            ScoredSyllables(syllables, self._at(positions, probabilities[row]))
            for row, (syllables, positions) in enumerate(zip(packed.syllables, packed.positions, strict=True))
        ]

    def _at(self, positions: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Return the rows of `[sequence, labels]` at the given positions; -1 is a continuation."""
        rows = probabilities[positions]
        rows[positions < 0] = [label == self.preprocessor.continuation for label in self.labels]
        return rows

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dropout": self.dropout}
