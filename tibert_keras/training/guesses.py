"""How well hidden tokens and syllables are guessed, by a model or by counting n-grams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.ngrams import contexts_in, contexts_of, guess_by_ngrams
from tibert_keras.records.pipeline import Records


@dataclass(frozen=True, kw_only=True)
class MaskedTokens:
    """The P masked tokens of records of N sequences.

    Attributes:
        token_ids: int32 `[N, L]`, the masked sequences.
        rows: int `[P]`, the sequence of each masked token.
        columns: int `[P]`, its position.
        labels: int `[P]`, the token that was there.
    """

    token_ids: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    labels: np.ndarray

    @property
    def shown(self) -> np.ndarray:
        """The tokens that stand in their places, int `[P]`: [MASK], a random one, or the right one."""
        return self.token_ids[self.rows, self.columns]

    @property
    def original(self) -> np.ndarray:
        """The sequences before masking, int32 `[N, L]`."""
        original = self.token_ids.copy()
        original[self.rows, self.columns] = self.labels
        return original


def model_guesses(
    model: TibertMaskedLM, records: Records, *, batch_size: int
) -> tuple[MaskedTokens, np.ndarray, np.ndarray]:
    """Let a model guess all masked tokens of records.

    Args:
        model: The model, without its preprocessor.
        records: The records.
        batch_size: Examples in a batch.

    Returns:
        The masked tokens; for each the cross-entropy in nats, float64 `[P]`; and the rank of the right one among the
        model's guesses, from 1, int `[P]`.
    """
    sequences: list[np.ndarray] = []
    slots, losses, ranks = [], [], []
    for x, labels, weights in records.numpy_batches(batch_size):
        used = weights > 0
        logits = model.predict_on_batch(x).astype("float32")[used]
        right = np.take_along_axis(logits, labels[used][:, None], axis=-1)
        highest = logits.max(axis=-1, keepdims=True)
        normalizer = np.log(np.exp(logits - highest).sum(axis=-1, dtype="float64"))
        losses.append(normalizer + (highest - right)[:, 0])
        # Written so that a model whose logits are NaN ranks the right token last.
        ranks.append(1 + (~(logits <= right)).sum(axis=-1))
        rows = np.nonzero(used)[0] + sum(len(before) for before in sequences)
        sequences.append(x["token_ids"])
        slots.append(np.stack([rows, x["mask_positions"][used], labels[used]]))
    rows, columns, labels = np.concatenate(slots, axis=1)
    tokens = MaskedTokens(token_ids=np.concatenate(sequences), rows=rows, columns=columns, labels=labels)
    return tokens, np.concatenate(losses), np.concatenate(ranks)


def ngram_ranks(tokens: MaskedTokens, texts: Records, *, num_ids: int, num_guesses: int = 5) -> np.ndarray:
    """Guess masked tokens by the n-grams of other records, and rank the right ones, from 1.

    Returns:
        int `[P]`; `num_guesses + 1` where the right token is not among the guesses.
    """
    contexts = contexts_of(tokens.token_ids)[tokens.rows, tokens.columns]
    guesses = guess_by_ngrams(contexts, contexts_in(texts), num_ids=num_ids, num_guesses=num_guesses)
    found = np.pad(guesses == tokens.labels[:, None], [(0, 0), (0, 1)], constant_values=True)
    return 1 + found.argmax(axis=1)


def syllable_ranks(tokens: MaskedTokens, ranks: np.ndarray, hidden: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rank the syllables that are wholly hidden.

    Args:
        tokens: The masked tokens.
        ranks: The rank of each, int `[P]`.
        hidden: Whether [MASK] hides it, bool `[P]`.
        starts: Whether a syllable starts at a token, bool `[N, L]`.

    Returns:
        float64 `[syllables]`, for each the product of its tokens' ranks: the number of fillings of which these ranks
        tell that they are at least as likely.
    """
    syllables = np.cumsum(starts.ravel()).reshape(starts.shape) - 1
    lengths = np.bincount(syllables.ravel())
    owners = syllables[tokens.rows, tokens.columns][hidden]
    whole = np.bincount(owners, minlength=len(lengths)) == lengths
    products = np.ones(len(lengths))
    np.multiply.at(products, owners, ranks[hidden])
    return products[whole]
