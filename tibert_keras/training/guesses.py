"""How well hidden tokens and syllables are guessed, by a model or by counting n-grams."""

from contextlib import nullcontext
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from tibert_keras.lazy import tf
from tibert_keras.models.encoder_layer import flat_layers
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.ngrams import contexts_in, contexts_of, guess_by_ngrams
from tibert_keras.records.pipeline import Records


@dataclass(frozen=True, kw_only=True)
class MaskedPlaces:
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
) -> tuple[MaskedPlaces, np.ndarray, np.ndarray]:
    """Let a model guess all masked tokens of records.

    Returns the masked tokens; for each the cross-entropy in nats, float64 `[P]`; and the rank of the right one among
    the model's guesses, from 1, int `[P]`.
    """
    sequences: list[np.ndarray] = []
    slots, losses, ranks = [], [], []
    scorer = _scorer(model)
    batch_size = min(batch_size, records.num_examples)
    with flat_layers(model.backbone) if keras.backend.backend() == "tensorflow" else nullcontext():
        for x, labels, weights in records.numpy_batches(batch_size):
            used = weights > 0
            # The last batch repeats its examples, for another size would be compiled anew.
            inputs = {**x, "labels": labels}
            full = {name: np.resize(value, (batch_size, *value.shape[1:])) for name, value in inputs.items()}
            scores = scorer.predict_on_batch(full)
            losses.append(scores["losses"][: len(used)][used].astype("float64"))
            ranks.append(scores["ranks"][: len(used)][used])
            rows = np.nonzero(used)[0] + sum(len(before) for before in sequences)
            sequences.append(x["token_ids"])
            slots.append(np.stack([rows, x["mask_positions"][used], labels[used]]))
    rows, columns, labels = np.concatenate(slots, axis=1)
    tokens = MaskedPlaces(token_ids=np.concatenate(sequences), rows=rows, columns=columns, labels=labels)
    return tokens, np.concatenate(losses), np.concatenate(ranks)


def _scorer(model: TibertMaskedLM) -> keras.Model:
    """Make a model of the same inputs and the right tokens, which computes the `losses` and `ranks` of these.

    Fetching the logits of the whole vocabulary to rank them in NumPy took as long as computing them.
    """
    labels = keras.Input((None,), dtype="int32", name="labels")
    logits = ops.cast(model.output, "float32")
    right = ops.take_along_axis(logits, labels[..., None], axis=-1)
    # The cross-entropy. Keras's function takes a tenth of the time of a small model longer.
    losses = ops.logsumexp(logits, axis=-1) - right[..., 0]
    # Written so that a model whose logits are NaN ranks the right token last.
    ranks = 1 + ops.sum(ops.cast(ops.logical_not(logits <= right), "int32"), axis=-1)
    scorer = keras.Model({**model.input, "labels": labels}, {"losses": losses, "ranks": ranks})
    if keras.backend.backend() == "tensorflow":
        # On CPUs, XLA computes the products of matrices more slowly than oneDNN.
        scorer.jit_compile = bool(tf.config.list_logical_devices("GPU"))
    return scorer


def ngram_ranks(tokens: MaskedPlaces, texts: Records, *, num_ids: int) -> np.ndarray:
    """Guess masked tokens by the n-grams of other records, and rank the right ones, from 1, int `[P]`.

    The rank is 6 where the right token is not among five guesses.
    """
    contexts = contexts_of(tokens.token_ids)[tokens.rows, tokens.columns]
    guesses = guess_by_ngrams(contexts, contexts_in(texts), num_ids=num_ids)
    found = np.pad(guesses == tokens.labels[:, None], [(0, 0), (0, 1)], constant_values=True)
    return 1 + found.argmax(axis=1)


def syllable_ranks(tokens: MaskedPlaces, ranks: np.ndarray, hidden: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rank the syllables that are wholly hidden, float64 `[syllables]`.

    A syllable's rank is the product of its tokens' `ranks` `[P]`: the number of fillings of which these tell that they
    are at least as likely. `hidden`, bool `[P]`, says which tokens [MASK] hides, and `starts`, bool `[N, L]`, where a
    syllable starts.
    """
    syllables = np.cumsum(starts.ravel()).reshape(starts.shape) - 1
    lengths = np.bincount(syllables.ravel())
    owners = syllables[tokens.rows, tokens.columns][hidden]
    whole = np.bincount(owners, minlength=len(lengths)) == lengths
    products = np.ones(len(lengths))
    np.multiply.at(products, owners, ranks[hidden])
    return products[whole]
