"""Make the records of one text file. They depend on the text and the options alone, so it can run anywhere."""

import itertools
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.integrity import check_unchanged
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.examples import Cuts, Sections, cut_document, lay_out
from tibert_keras.records.masking import mask_tokens
from tibert_keras.records.serialization import serialize_examples, write_records
from tibert_keras.records.text_reader import LONGEST_SAMPLED_SECTION, LONGEST_SECTION, SectionReader
from tibert_keras.tokenizers.sentence_piece import SentencePieceEncoder

# Arrays of this many examples stay in the processor's cache.
_BATCH = 1024
# Above this share of unknown tokens the characters behind them are listed.
_MANY_UNKNOWN = 0.01


@dataclass(kw_only=True)
class SourceCounts:
    """Counts of a text file, without special tokens; its commonest unknown characters if over 1% is unknown."""

    documents: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    skipped_lines: int = 0
    unknown_characters: dict[str, int] = field(default_factory=dict)


def record_tokenizer(proto: bytes, config: RecordsConfig) -> SentencePieceEncoder:
    """Make the tokenizer with the options of the records, for which `[MASK]` in a text is text."""
    return SentencePieceEncoder(
        proto,
        tsheg_pretokenization=config.tsheg_pretokenization,
        underline_between_sections=config.underline_between_sections,
        nbest_size=64 if config.stochastic_tokens else 0,
        alpha=0.1,
        masks_in_text=False,
    )


def write_records_file(
    source: str, target: Path, *, config: RecordsConfig, tokenizer: SentencePieceEncoder, source_sha256: str
) -> tuple[SourceCounts, int]:
    """Write the examples of one text file, and return the counts of the text and the number of examples.

    Memory holds a few megabytes of text and a batch of examples at a time, for files, documents and lines of any size.
    A text that gives no example, or does not have the given hash when it is read, is an `InputError`.
    """
    longest = LONGEST_SAMPLED_SECTION if config.stochastic_tokens else LONGEST_SECTION
    reader = SectionReader(source, errors=config.errors, longest_section=longest)
    encoder = _Encoder(tokenizer, config, file_key=zlib.crc32(Path(source).name.encode()))
    examples = 0
    with target.open("wb") as file:
        for cuts, draws in _batches(encoder.documents(reader), encoder, config):
            features = _masked_examples(cuts, draws, config=config, tokenizer=tokenizer)
            examples += write_records(file, serialize_examples(features))
    check_unchanged({source: source_sha256}, {source: reader.sha256})
    if examples == 0:
        raise InputError(
            f"No document has two tokens for an example. Received: {source!r}. Take the file out of the input."
        )
    encoder.counts.skipped_lines = reader.skipped_lines
    encoder.list_unknown_characters()
    return encoder.counts, examples


class _Encoder:
    """Encodes blocks of sections to the token ids of documents."""

    def __init__(self, tokenizer: SentencePieceEncoder, config: RecordsConfig, *, file_key: int) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.file_key = file_key
        self.counts = SourceCounts()
        self._characters: Counter[str] = Counter()

    def rng(self, document: int, *more: int) -> np.random.Generator:
        # A document has a random stream of its own, so neither order nor workers matter.
        return np.random.default_rng([self.config.random_seed, self.file_key, document, *more])

    def documents(self, reader: SectionReader) -> Iterator[tuple[int, Sections]]:
        """Yield parts of documents with the number of the document."""
        number, part = 0, 0
        for sections in reader:
            # SentencePiece is fastest with a whole block at once. Sampled encodings need a seed for each document.
            together = None if self.tokenizer.nbest_size else iter(self.tokenizer.encode(list(filter(None, sections))))
            for is_text, group in itertools.groupby(sections, bool):
                if not is_text:
                    number, part = number + (part > 0), 0
                    continue
                texts = list(group)
                if together is None:
                    seed = int(self.rng(number, 1, part).integers(1 << 31))
                    encoded = self.tokenizer.encode_seeded(texts, seed=seed)
                else:
                    encoded = list(itertools.islice(together, len(texts)))
                if self.config.underline_between_sections == "between":
                    # Before each; `lay_out` leaves it out before the first of a sequence.
                    encoded = [[self.tokenizer.space_token_id, *ids] for ids in encoded]
                yield number, self._count(texts, encoded)
                part += 1
        self.counts.documents = number + (part > 0)

    def _count(self, texts: list[str], encoded: list[list[int]]) -> Sections:
        joined = Sections.join(encoded)
        unknown = self.tokenizer.unk_id()
        num_unknown = int(np.count_nonzero(joined.token_ids == unknown))
        if num_unknown:
            with_unknown = (text for text, ids in zip(texts, encoded, strict=True) if unknown in ids)
            self._characters.update(itertools.chain.from_iterable(with_unknown))
        self.counts.tokens += len(joined.token_ids)
        self.counts.unknown_tokens += num_unknown
        return joined

    def list_unknown_characters(self) -> None:
        """List the characters behind the unknown tokens in the counts, if there are many."""
        if self.counts.unknown_tokens <= _MANY_UNKNOWN * self.counts.tokens:
            return
        unknown = self.tokenizer.unk_id()
        characters = [character for character, _ in self._characters.most_common()]
        encoded = self.tokenizer.encode(characters)
        found = [character for character, ids in zip(characters, encoded, strict=True) if unknown in ids]
        self.counts.unknown_characters = {character: self._characters[character] for character in found[:20]}


def _batches(
    documents: Iterable[tuple[int, Sections]], encoder: _Encoder, config: RecordsConfig
) -> Iterator[tuple[list[Cuts], np.ndarray]]:
    """Gather the sequences of several documents, with the random numbers for their masks."""
    num_draws = config.num_draws(config.max_seq_length)
    cuts: list[Cuts] = []
    draws: list[np.ndarray] = []
    gathered = 0
    for number, parts in itertools.groupby(documents, itemgetter(0)):
        rng = encoder.rng(number)
        for cut in cut_document((part for _, part in parts), policy=config, rng=rng):
            cuts.append(cut)
            # Drawn by document, so that batches do not matter.
            draws.append(rng.random((len(cut.bounds), num_draws)))
            gathered += len(cut.bounds)
            if gathered >= _BATCH:
                yield cuts, np.concatenate(draws)
                cuts, draws, gathered = [], [], 0
    if cuts:
        yield cuts, np.concatenate(draws)


def _masked_examples(
    cuts: list[Cuts], draws: np.ndarray, *, config: RecordsConfig, tokenizer: SentencePieceEncoder
) -> dict[str, np.ndarray]:
    """Lay out sequences, mask them, and return the features of Google's schema."""
    token_ids, segment_ids, is_swapped = lay_out(
        cuts,
        policy=config,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        space_token_id=tokenizer.space_token_id if config.underline_between_sections == "between" else None,
    )
    masked = mask_tokens(token_ids, policy=config, tokenizer=tokenizer, draws=draws)
    # Without whole words each piece of Tibetan counts as the start of one, as in the original's records.
    starts_word = tokenizer.starts_syllable(token_ids) if config.do_whole_word_mask else 1
    input_mask = (token_ids != tokenizer.pad_token_id).astype(np.int32)
    return {
        "input_ids": masked.token_ids,
        "input_mask": input_mask,
        "segment_ids": segment_ids,
        "token_boundary": input_mask * starts_word,
        "masked_lm_positions": masked.mask_positions,
        "masked_lm_ids": masked.mask_ids,
        "masked_lm_weights": masked.mask_weights,
        "next_sentence_labels": is_swapped[:, None],
    }
