"""Guesses hidden tokens by counting: the n-grams of their neighbours in other texts, the baseline of a model."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tibert_keras.records.masking import original_tokens
from tibert_keras.records.pipeline import Records

# The two tokens before and the two after a token are its context; these are the parts of it with which it is counted.
# Where one was never seen, or with too few different tokens, the next one helps. None with a hidden neighbour was seen.
_BEFORE_2, _BEFORE, _AFTER, _AFTER_2 = range(4)
PARTS: tuple[tuple[int, ...], ...] = (
    (_BEFORE_2, _BEFORE, _AFTER, _AFTER_2),
    (_BEFORE_2, _BEFORE, _AFTER),
    (_BEFORE, _AFTER, _AFTER_2),
    (_BEFORE, _AFTER),
    (_BEFORE_2, _AFTER),
    (_BEFORE, _AFTER_2),
    (_BEFORE_2, _BEFORE),
    (_AFTER, _AFTER_2),
    (_BEFORE,),
    (_AFTER,),
    (),
)
# No token has this id.
_NONE = -1
# Four million flags fit into a processor's caches, and few of a hundred thousand contexts share one.
_HASH_BITS = 22
# Pairs are merged rarely, as that sorts all of them.
_MOST_WAITING = 1 << 21


def guess_by_ngrams(
    contexts: np.ndarray, seen: Iterable[tuple[np.ndarray, np.ndarray]], *, num_ids: int, num_guesses: int = 5
) -> np.ndarray:
    """Guess tokens from their neighbours by a back-off over n-grams, the most frequent first.

    Only the n-grams of the given contexts are counted, so memory grows with their number and not with the texts.

    Args:
        contexts: int `[P, 4]`, the two tokens before each wanted token and the two after it. Ids that were never seen,
            such as that of [MASK], match nothing.
        seen: Contexts `[N, 4]` and the tokens in them `[N]`, in as many parts as is convenient.
        num_ids: The number of ids, above all that occur.
        num_guesses: The number of guesses for a token: int64 `[P, num_guesses]` is returned, with -1 where too few
            different tokens were seen.
    """
    if not len(contexts):
        return np.full((0, num_guesses), _NONE)
    wanted = [_keys(contexts, part, num_ids) for part in PARTS]
    counters = [_Counter(keys, num_ids) for keys in wanted]
    for others, tokens in seen:
        for part, counter in zip(PARTS, counters, strict=True):
            counter.add(_keys(others, part, num_ids), tokens)
    candidates = [counter.most_frequent(keys, num_guesses) for counter, keys in zip(counters, wanted, strict=True)]
    return _first_different(np.concatenate(candidates, axis=1), num_guesses)


def contexts_of(token_ids: np.ndarray) -> np.ndarray:
    """Return the contexts of all tokens of sequences `[B, L]`, `[B, L, 4]`, with zeros beyond the ends."""
    length = token_ids.shape[1]
    padded = np.pad(token_ids, [(0, 0), (2, 2)])
    return np.stack([padded[:, shift:][:, :length] for shift in (0, 1, 3, 4)], axis=-1)


def contexts_in(records: Records, *, batch_size: int = 4096) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the contexts `[N, 4]` of all ordinary tokens of records before masking, and these tokens `[N]`."""
    for x, labels, weights in records.numpy_batches(batch_size):
        token_ids = original_tokens(x["token_ids"], x["mask_positions"], labels, weights)
        # [CLS] is first and [SEP] last.
        inner = np.zeros(token_ids.shape, bool)
        inner[:, 1:-1] = x["padding_mask"][:, 2:] > 0
        yield contexts_of(token_ids)[inner], token_ids[inner]


def _keys(contexts: np.ndarray, part: Sequence[int], num_ids: int) -> np.ndarray:
    """Number a part of contexts, uint64 `[N]`; above 65,535 ids, two of 2^64 numbers may be the same."""
    # Odd, so that no bit is lost at once when it overflows.
    base = np.uint64(num_ids | 1)
    keys = np.zeros(len(contexts), np.uint64)
    for column in part:
        keys = keys * base + contexts[:, column].astype(np.uint64)
    return keys


def _hashes(keys: np.ndarray) -> np.ndarray:
    """Hash keys to `_HASH_BITS` bits by multiplication (Knuth, The Art of Computer Programming 3, 6.4)."""
    return (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _HASH_BITS)


class _Counter:
    """Counts the tokens in some contexts."""

    def __init__(self, keys: np.ndarray, num_ids: int) -> None:
        self._keys = np.unique(keys)
        # Whether a context may be one of these: most are not, and a search would find that out more slowly.
        self._possible = np.zeros(1 << _HASH_BITS, bool)
        self._possible[_hashes(self._keys)] = True
        self._num_ids = num_ids
        # Pairs of a context and a token, as sorted numbers, and how often they were seen; and those not yet merged.
        self._pairs, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, keys: np.ndarray, tokens: np.ndarray) -> None:
        possible = np.flatnonzero(self._possible[_hashes(keys)])
        keys, tokens = keys[possible], tokens[possible]
        places = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        known = self._keys[places] == keys
        self._waiting.append(np.unique(places[known] * self._num_ids + tokens[known], return_counts=True))
        if sum(len(pairs) for pairs, _ in self._waiting) > max(len(self._pairs), _MOST_WAITING):
            self._merge()

    def _merge(self) -> None:
        merging = [(self._pairs, self._counts), *self._waiting]
        pairs, counts = (np.concatenate(each) for each in zip(*merging, strict=True))
        order = np.argsort(pairs)
        self._pairs, first = np.unique(pairs[order], return_index=True)
        self._counts = np.add.reduceat(counts[order], first) if len(first) else counts
        self._waiting = []

    def most_frequent(self, keys: np.ndarray, number: int) -> np.ndarray:
        """The most frequent tokens in each context, int64 `[len(keys), number]`; of equals, the lowest id first."""
        self._merge()
        places, tokens = np.divmod(self._pairs, self._num_ids)
        order = np.lexsort((tokens, -self._counts, places))
        places, tokens = places[order], tokens[order]
        ranks = np.arange(len(places)) - np.searchsorted(places, places)
        best = np.full((len(self._keys), number), _NONE)
        best[places[ranks < number], ranks[ranks < number]] = tokens[ranks < number]
        return best[np.searchsorted(self._keys, keys)]


def _first_different(candidates: np.ndarray, number: int) -> np.ndarray:
    """Keep the first `number` different candidates of each row."""
    kept = np.full((len(candidates), number), _NONE)
    filled = np.zeros(len(candidates), np.int64)
    for column in candidates.T:
        new = (column != _NONE) & (filled < number) & ~(kept == column[:, None]).any(axis=1)
        kept[new, filled[new]] = column[new]
        filled[new] += 1
    return kept
