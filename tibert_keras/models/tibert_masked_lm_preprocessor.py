"""Turns raw strings into masked batches, so that `TibertMaskedLM.fit()` takes text."""

import random
from typing import Any

import keras
import keras_nlp
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.models.tibert_preprocessor import TibertPreprocessor, check_packing, in_graph, integer_mask
from tibert_keras.models.tibert_tokenizer import TibertTokenizer, as_tibert_tokenizer
from tibert_keras.records.masking import MaskedTokens, MaskingPolicy, mask_tokens


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertMaskedLMPreprocessor(TibertPreprocessor, keras_nlp.models.AlbertMaskedLMPreprocessor):
    """Tokenizes, packs and masks text for `TibertMaskedLM`.

    This is KerasHub's `AlbertMaskedLMPreprocessor` with the n-gram masking of record files
    (`tibert_keras.records.masking.mask_tokens`), drawn anew for every batch.

    Args:
        tokenizer: A `TibertTokenizer`; an `AlbertTokenizer` is replaced by one with the same vocabulary.
        sequence_length: int. Length of every sequence, [CLS], [SEP] and padding included.
        truncate: str. How two segments share the length: `"round_robin"` or `"waterfall"`.
        mask_selection_rate: float. Share of a sequence's tokens to predict.
        mask_selection_length: int. Largest number of tokens to predict in a sequence.
        mask_token_rate: float. Share of the selected tokens that become [MASK].
        random_token_rate: float. Share of the selected tokens that become a random ordinary token.
        ngram: int. Length of the longest masked span.
        favor_shorter_ngram: bool. Draw span lengths n with probability proportional to 1/n; if `False`, in reverse.
        do_whole_word_mask: bool. Mask whole syllables.
        do_permutation: bool. Also predict as many tokens that are exchanged with each other; `mask_positions` then has
            twice `mask_selection_length` slots.
        seed: int or `None`. Seed of the masks; without one, `keras.utils.set_random_seed` decides them. Either makes
            `fit()`, `evaluate()` and a sequence of calls reproducible, but not the calls of a parallel `map` of one's
            own, which run in any order.

    Call arguments:
        x: A text, a list of texts, or a tuple of lists of segments.
        y: Not used: the labels are the masked tokens.
        sample_weight: Not used.
        seed: int or `None`. The seed of this call's masks.

    Returns:
        `(x, y, sample_weight)`: `x` has `token_ids`, `padding_mask` and `segment_ids` of shape
        `[batch, sequence_length]` and `mask_positions` of shape `[batch, mask_selection_length]`; `y` holds the
        masked ids and `sample_weight` is 1 where there is one, both with the shape of `mask_positions`.

    Example:
    ```python
    preprocessor = tibert_keras.TibertMaskedLMPreprocessor(tibert_keras.TibertTokenizer("spiece.model"))
    x, y, sample_weight = preprocessor(["བཀྲ་ཤིས་བདེ་ལེགས།", "ཆོས་ལ་བསྔགས་པ།"])
    ```
    """

    def __init__(
        self,
        tokenizer: TibertTokenizer,
        sequence_length: int = 128,
        truncate: str = "round_robin",
        mask_selection_rate: float = 0.15,
        mask_selection_length: int = 20,
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        ngram: int = 3,
        favor_shorter_ngram: bool = False,
        do_whole_word_mask: bool = False,
        do_permutation: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_packing(sequence_length, truncate)
        super().__init__(
            as_tibert_tokenizer(tokenizer),
            sequence_length=sequence_length,
            truncate=truncate,
            mask_selection_rate=mask_selection_rate,
            mask_selection_length=mask_selection_length,
            mask_token_rate=mask_token_rate,
            random_token_rate=random_token_rate,
            **kwargs,
        )
        self.ngram = ngram
        self.favor_shorter_ngram = favor_shorter_ngram
        self.do_whole_word_mask = do_whole_word_mask
        self.do_permutation = do_permutation
        self.seed = seed
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.policy = MaskingPolicy(
            masked_lm_prob=mask_selection_rate,
            max_predictions_per_seq=mask_selection_length,
            ngram=ngram,
            favor_shorter_ngram=favor_shorter_ngram,
            do_whole_word_mask=do_whole_word_mask,
            do_permutation=do_permutation,
            mask_token_rate=mask_token_rate,
            random_token_rate=random_token_rate,
        )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        # KerasHub's `call` masks with this. Ours masks afterwards, with a seed. Not `setattr`, as torch wants a module.
        self.__dict__["masker"] = _no_masks

    def call(self, x: Any, y: Any = None, sample_weight: Any = None, seed: Any = None) -> Any:
        """Preprocess and mask a batch, in Python or in a graph. A `[MASK]` in a text is text."""
        features, token_ids = self._pack(x)
        return self._packed(features, self._mask_anywhere(self.without_masks(token_ids), seed))

    def call_to_predict(self, x: Any) -> Any:
        """Preprocess a batch for `predict()`: the tokens to predict are the `[MASK]`s in the text.

        A text without any is masked at random, as in training. A text has at least `mask_selection_length` slots for
        predictions, and in Python as many as the text with most masks needs. Slots without a mask predict [CLS]. A mask
        behind the end of the sequence is an `InputError`.
        """
        if not self.built:
            self.build(None)
        features, token_ids = self._pack(x)
        if not in_graph():
            self._check_masks(x, token_ids)
        return self._packed(features, self._mask_anywhere(token_ids, None, to_predict=True))[0]

    def next_seed(self) -> int:
        """Draw a seed, from `seed` or as `keras.utils.set_random_seed` decides."""
        return random.getrandbits(32) if self.rng is None else int(self.rng.integers(2**32))

    def _pack(self, x: Any) -> tuple[dict[str, Any], Any]:
        """Return KerasHub's inputs without masks, and the ids among them: tensors in a graph, else arrays."""
        features, _, _ = integer_mask(super().call(x))
        if not in_graph():
            features = keras.tree.map_structure(keras.ops.convert_to_numpy, features)
        return features, features["token_ids"]

    def _packed(self, features: dict[str, Any], masked: Any) -> tuple[Any, Any, Any]:
        token_ids, mask_positions, mask_ids, mask_weights = masked
        return {**features, "token_ids": token_ids, "mask_positions": mask_positions}, mask_ids, mask_weights

    # === Masks ===
    def _mask_anywhere(self, token_ids: Any, seed: Any, *, to_predict: bool = False) -> Any:
        mask = self._mask_to_predict if to_predict else self._mask
        if not in_graph():
            return mask(token_ids, seed)

        def in_python(token_ids: np.ndarray, seed: np.ndarray) -> MaskedTokens:
            masked = mask(token_ids, None if seed < 0 else int(seed))
            if (needed := masked.mask_positions.shape[-1]) > self.policy.prediction_slots:
                raise InputError(
                    "A text has more masks than a sequence has predictions. "
                    f"Received: {needed} masks, mask_selection_length={self.mask_selection_length}. Give it in a list."
                )
            return masked

        seed = tf.constant(-1, tf.int64) if seed is None else tf.cast(seed, tf.int64)
        outputs = self.run_in_python(in_python, [token_ids, seed], [tf.int32, tf.int32, tf.int32, tf.float32])
        shape = [*token_ids.shape[:-1], self.policy.prediction_slots]
        return [
            tf.ensure_shape(output, token_ids.shape if index == 0 else shape) for index, output in enumerate(outputs)
        ]

    def _mask(self, token_ids: np.ndarray, seed: int | None) -> MaskedTokens:
        rows, rng = np.atleast_2d(token_ids), self.rng
        if seed is not None or rng is None:
            rng = np.random.default_rng(random.getrandbits(32) if seed is None else seed)
        draws = rng.random((len(rows), self.policy.num_draws(rows.shape[1])))
        masked = mask_tokens(rows, policy=self.policy, tokenizer=self.tokenizer, draws=draws)
        return masked if token_ids.ndim == 2 else MaskedTokens(*(array[0] for array in masked))

    def _mask_to_predict(self, token_ids: np.ndarray, seed: int | None) -> MaskedTokens:
        """Put the masks that a text has into the slots, or mask the text if it has none."""
        if token_ids.ndim == 1:
            return MaskedTokens(*(array[0] for array in self._mask_to_predict(token_ids[None], seed)))
        is_mask = token_ids == self.tokenizer.mask_token_id
        count = is_mask.sum(axis=1)
        missing = max(0, count.max(initial=0) - self.policy.prediction_slots)
        masked, *slots = self._mask(token_ids, seed)
        positions, ids, weights = (np.pad(array, ((0, 0), (0, missing))) for array in slots)
        for array, value in ((masked, token_ids), (positions, 0), (ids, 0), (weights, 0)):
            np.copyto(array, value, where=(count > 0)[:, None])
        row, column = np.nonzero(is_mask)
        positions[row, np.arange(len(row)) - (count.cumsum() - count)[row]] = column
        return MaskedTokens(masked, positions, ids, weights)

    def _check_masks(self, x: Any, token_ids: np.ndarray) -> None:
        """Raise `InputError` if a sequence holds fewer masks than its text."""
        segments = x if isinstance(x, tuple) else (x,)
        texts = [" ".join(each) for each in zip(*([s] if isinstance(s, str) else s for s in segments), strict=True)]
        found = (np.atleast_2d(token_ids) == self.tokenizer.mask_token_id).sum(axis=1)
        for text, count in zip(texts, found, strict=True):
            if text.count(self.tokenizer.mask_token) > count:
                raise InputError(
                    f"A mask lies behind the {self.sequence_length} tokens of a sequence. "
                    f"Received: {text[:40]!r}. Give the text in parts."
                )

    def get_config(self) -> dict[str, Any]:
        names = ("ngram", "favor_shorter_ngram", "do_whole_word_mask", "do_permutation", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _no_masks(token_ids: Any) -> dict[str, Any]:
    """Do as KerasHub's `MaskedLMMaskGenerator`, without masks."""
    return dict.fromkeys(["token_ids", "mask_positions", "mask_ids", "mask_weights"], token_ids)
