"""Turns raw strings into masked batches, so that `TibertMaskedLM.fit()` takes text."""

from __future__ import annotations

from typing import Any

import keras
import keras_nlp
import numpy as np

from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.records.masking import MaskingPolicy, mask_tokens

_OWN_OPTIONS = ["ngram", "favor_shorter_ngram", "do_whole_word_mask", "do_permutation", "seed"]


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertMaskedLMPreprocessor(keras_nlp.models.MaskedLMPreprocessor):
    """Tokenizes, packs and masks text for `TibertMaskedLM`.

    This is KerasHub's `MaskedLMPreprocessor` with the n-gram masking of record files
    (`tibert_keras.records.masking.mask_tokens`), drawn anew for every batch.

    Args:
        tokenizer: A `TibertTokenizer`.
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
        seed: int or `None`. Seed of the masks. It makes a sequence of calls reproducible, but not those of a parallel
            `map`, as in `fit()` on strings, which take their masks in the order in which they happen to run.

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

    backbone_cls = TibertBackbone
    tokenizer_cls = TibertTokenizer

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
        super().__init__(
            tokenizer,
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

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        policy = MaskingPolicy(
            masked_lm_prob=self.mask_selection_rate,
            max_predictions_per_seq=self.mask_selection_length,
            ngram=self.ngram,
            favor_shorter_ngram=self.favor_shorter_ngram,
            do_whole_word_mask=self.do_whole_word_mask,
            do_permutation=self.do_permutation,
            mask_token_rate=self.mask_token_rate,
            random_token_rate=self.random_token_rate,
        )
        self.masker = _Masker(self.tokenizer, policy, self.seed)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in _OWN_OPTIONS}
        return {**super().get_config(), **own}


class _Masker:
    """Runs `mask_tokens` in place of KerasHub's `MaskedLMMaskGenerator`, with outputs of the same form."""

    def __init__(self, tokenizer: TibertTokenizer, policy: MaskingPolicy, seed: int | None) -> None:
        self.tokenizer = tokenizer
        self.policy = policy
        self.rng = np.random.default_rng(seed)

    def __call__(self, token_ids: Any) -> dict[str, Any]:
        if type(token_ids).__module__.startswith("tensorflow"):
            outputs = self._mask_in_graph(token_ids)
        else:
            outputs = self._mask(keras.ops.convert_to_numpy(token_ids))
        return dict(zip(["token_ids", "mask_positions", "mask_ids", "mask_weights"], outputs, strict=True))

    def _mask(self, token_ids: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = np.atleast_2d(token_ids)
        masked = mask_tokens(
            rows,
            policy=self.policy,
            special_token_ids=self.tokenizer.special_token_ids,
            ordinary_token_ids=self.tokenizer.ordinary_token_ids,
            mask_token_id=self.tokenizer.mask_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            draws=self.rng.random((len(rows), self.policy.num_draws(rows.shape[1]))),
            starts_word=self.tokenizer.starts_syllable(rows) if self.policy.do_whole_word_mask else None,
        )
        return tuple(masked) if token_ids.ndim == 2 else tuple(array[0] for array in masked)

    def _mask_in_graph(self, token_ids: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        outputs = tf.numpy_function(self._mask, [token_ids], [tf.int32, tf.int32, tf.int32, tf.float32])
        shape = [*token_ids.shape[:-1], self.policy.prediction_slots]
        return tuple(
            tf.ensure_shape(output, token_ids.shape if index == 0 else shape) for index, output in enumerate(outputs)
        )
