"""Fills gaps in texts: single pieces or whole syllables, from strings or from file to file."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice, tee
from typing import Any, Literal, NamedTuple

from tqdm import tqdm

from tibert_keras.corpus.recognition import check_kind
from tibert_keras.corpus.transliteration import Transliteration, texts_in_tibetan, to_wylie
from tibert_keras.errors import InputError, check_options
from tibert_keras.globs import check_outputs
from tibert_keras.inference.conjectures import check_conjectures_file
from tibert_keras.inference.fill_pieces import FilledMask, check_counts, fill_mask, list_texts
from tibert_keras.inference.gap_search import Candidate, search_gaps
from tibert_keras.inference.gaps import fill_in, find_gaps, mark_gaps, most_syllables, unread_signs
from tibert_keras.inference.loading import load_fill_mask
from tibert_keras.inference.tag import read_file
from tibert_keras.models.tibert_presets import MASKED_LM
from tibert_keras.storage import atomic_output
from tibert_keras.transcription import GAP

_LOG = logging.getLogger(__name__)

Unit = Literal["syllables", "pieces"]

# Gaps that are searched together.
_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class FillMaskConfig:
    """Fills gaps.

    Args:
        text: Texts with `[GAP:2-4]` in place of 2 to 4 missing syllables, `[?]` for the rest of a syllable, or `[MASK]`
            for a missing piece of the vocabulary.
        model: Folder of a SavedModel, of a model (a preset, such as `champion/` of a run), or of a run with a champion;
            or the name of a model that comes with the package.
        input_file: UTF-8 file with a text per line, or, if its name ends in `.jsonl`, an object with a `text` per line.
        output_file: File for the guesses, in place of standard output: a table with tabs if its name ends in `.tsv`,
            an object per line if it ends in `.jsonl`; with `whole_text`, the text with its best fillings (`.txt`).
        whole_text: Take `input_file` as one text, whose gaps are filled with context across lines. Lines without gaps
            stay as they are.
        conjectures_file: With `whole_text`, file for the fillings with their places: a table with tabs (`.tsv`), JSON
            (`.json`), or the text as TEI with `<supplied cert="...">` (`.xml`).
        gap_signs: What other signs stand for: a number of syllables for all known ones (`[---]`, `[...]`, `…`, `xxx`),
            such as `1-2`, or signs with their numbers, such as `[---]=1-3,…=1`.
        unit: What to guess: `syllables`, whole ones for each gap, by a search; or `pieces`, those of the vocabulary
            behind each `[MASK]`, many times as fast.
        transliteration: Scheme of text in Latin letters, to convert it: ewts (Wylie) or acip.
        show_wylie: Add each guess in Wylie (EWTS): beside its Tibetan, in a further column, or as `wylie` in JSON.
        top_k: Maximum number of guesses for each gap, up to 1,000; a SavedModel gives no more pieces than it was
            exported with.
        batch_size: Texts per step; a GPU needs more than a CPU, where more only adds padding.
    """

    text: list[str]
    model: str = MASKED_LM
    input_file: str | None = None
    output_file: str | None = None
    whole_text: bool = False
    conjectures_file: str | None = None
    gap_signs: str | None = None
    unit: Unit = "syllables"
    transliteration: Transliteration | None = None
    show_wylie: bool = False
    top_k: int = 5
    batch_size: int = 8

    def __post_init__(self) -> None:
        if bool(self.text) == (self.input_file is not None):
            raise InputError(
                f"Texts come from the command line or from a file. Received: {len(self.text)} texts and "
                f"input_file={self.input_file!r}. Give one or the other."
            )
        for name in ("model", "input_file", "output_file"):
            if getattr(self, name) == "":
                raise InputError(f"{name} must be a path. Received: {name}=''. Give one.")
        if self.whole_text:
            self._check_whole_text()
        elif self.conjectures_file is not None:
            raise InputError(
                f"Only a whole text has a file of conjectures. Received: conjectures_file={self.conjectures_file!r}, "
                "whole_text=False. Add --whole_text, or give output_file alone."
            )
        elif self.output_file is not None:
            _check_format(self.output_file)
        if self.gap_signs is not None:
            mark_gaps("", self.gap_signs)
        check_outputs(self.input_file, output_file=self.output_file, conjectures_file=self.conjectures_file)
        check_options(self, positive=("top_k", "batch_size"))

    def _check_whole_text(self) -> None:
        if self.input_file is None or self.input_file.endswith(".jsonl") or self.unit != "syllables":
            raise InputError(
                f"A whole text is a text file, and filled by syllables. Received: input_file={self.input_file!r}, "
                f"unit={self.unit!r}. Give a .txt file, or leave out whole_text."
            )
        if self.output_file is not None and self.output_file.endswith((".tsv", ".jsonl")):
            raise InputError(
                f"The output of a whole text is the text. Received: output_file={self.output_file!r}. "
                "Let it end in .txt, and give conjectures_file for a table."
            )
        if self.conjectures_file is not None:
            check_conjectures_file(self.conjectures_file)


class FilledText(NamedTuple):
    """The guesses for a text, the likeliest first, and the text with the likeliest in each gap.

    `measure` tells what their scores are: `score`, as of `Candidate`, compares fillings; `probability` is that of a
    piece behind one mask, and adds up to one over the vocabulary.
    """

    number: int
    text: str
    gaps: list[list[tuple[str, float]]]
    filled: str
    measure: Literal["score", "probability"] = "score"
    # Those that an edition has in place of its gaps, as `mark_gaps` returns them.
    signs: Sequence[str | None] = ()


def fill_gaps(texts: Sequence[str] | str, *, model: Any = MASKED_LM, top_k: int = 5) -> list[list[list[Candidate]]]:
    """Guess the whole syllables in the gaps of texts.

    A gap is written as `find_gaps` describes: `[GAP:2-4]` is 2 to 4 syllables, a run of adjacent `[MASK]`s that many
    pieces of the vocabulary. A beam search fills it from left to right, for each possible number of pieces. The best
    fillings are then scored in the line by pseudo-log-likelihood (Salazar et al., 2020, "Masked Language Model
    Scoring"): the mean log-probability of the pieces that the tokenizer cuts them into there, each behind a mask of its
    own. Each gap is searched by itself, with masks in place of the others. Of a long text the model sees the part
    around the gap. It sees no line breaks inside sentences and no markers of folios and lines, as in `join_lines`.

    Args:
        texts: Texts with gaps, or a single one.
        model: As for `load_fill_mask`: a model, a folder, or a name.
        top_k: Maximum number of candidates for a gap, up to 1,000.

    Returns:
        For each gap of each text the candidates, the likeliest first; none if no pieces of the vocabulary make whole
        syllables there.

    Raises:
        InputError: If a text has no gap, or one that is written wrongly or is too long.

    Example:
    ```python
    (gaps,) = fill_gaps(["བཅོམ་ལྡན་[GAP:1-2]་ལ་ཕྱག་འཚལ་ལོ།"])
    for candidate in gaps[0]:
        print(candidate.text, candidate.score)
    ```
    """
    check_counts(top_k=top_k)
    texts = list_texts(texts)
    gaps = [find_gaps(text) for text in texts]
    loaded = load_fill_mask(model, count=sum(map(most_syllables, texts)))
    in_order = [gap for each in gaps for gap in each]
    found = chain.from_iterable(
        search_gaps(loaded, in_order[start : start + _AT_ONCE], top_k) for start in range(0, len(in_order), _AT_ONCE)
    )
    return [[next(found) for _ in each] for each in gaps]


# === From file to file ===


def fill_file(config: FillMaskConfig) -> Iterator[FilledText]:
    """Fill the gaps of the texts in a configuration or its file; see `fill_texts`."""
    texts: Iterable[tuple[int, str]] = enumerate(config.text, 1)
    if config.input_file is not None:
        if config.whole_text:
            texts = [(1, "".join(line + end for line, end in read_file(config.input_file)))]
        else:
            texts = read_texts(config.input_file)
    if config.gap_signs is not None:
        # Texts are read ahead of their fillings.
        marked, signed = tee((number, *mark_gaps(text, config.gap_signs)) for number, text in texts)
        texts = ((number, text) for number, text, _ in marked)
    texts = texts_in_tibetan(_noting_signs(texts), config.transliteration)
    filled = fill_texts(texts, model=config.model, unit=config.unit, top_k=config.top_k, batch_size=config.batch_size)
    if config.gap_signs is None or config.unit == "pieces":
        return filled
    return (_with_signs(text, signs) for text, (_, _, signs) in zip(filled, signed, strict=True))


def _noting_signs(texts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Log a warning of signs that may stand for gaps, but are read as text."""
    signs = Counter[str]()
    for number, text in texts:
        signs.update(unread_signs(text))
        yield number, text
    if signs:
        shown = ", ".join(sign for sign, _ in signs.most_common(5))
        _LOG.warning("read as text, but may be gaps: %s. Write [GAP:2-4], or give --gap_signs=1-2.", shown)


def _with_signs(text: FilledText, signs: list[str | None]) -> FilledText:
    best = [guesses[0][0] if guesses else sign for guesses, sign in zip(text.gaps, signs, strict=True)]
    return text._replace(filled=fill_in(text.text, best), signs=signs)


def read_texts(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Yield the texts of a UTF-8 file, a text per line, with the numbers of their lines, except lines of white space.

    If its name ends in `.jsonl`, a line is a JSON object with a `text`. Of a TEI file, only the lines that have gaps
    count.
    """
    name, is_empty = os.fspath(path), True
    is_text = GAP.search if check_kind(name) else str.strip
    for number, (line, _) in enumerate(read_file(name), 1):
        if is_text(line):
            is_empty = False
            yield number, _text_of(line, number) if name.endswith(".jsonl") else line
    if is_empty:
        raise InputError(f"The file has no text with a gap. Received: {name!r}. Give another.")


def _text_of(line: str, number: int) -> str:
    try:
        text = json.loads(line)["text"]
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f'Line {number} is not a JSON object with a text. Received: {line[:100]!r}. Write {{"text": "..."}}.'
        ) from error
    return text


def fill_texts(
    texts: Iterable[tuple[int, str]], *, model: Any, unit: Unit = "syllables", top_k: int = 5, batch_size: int = 8
) -> Iterator[FilledText]:
    """Fill the gaps of any number of texts. Errors are those of `fill_gaps` and `fill_mask`, with the text's number."""
    check_counts(top_k=top_k, batch_size=batch_size)
    # Read more texts at once for pieces: `fill_mask` batches them by length, to keep the padding small.
    fillings = {"syllables": (batch_size, _fill_syllables), "pieces": (64 * batch_size, _fill_pieces)}
    if unit not in fillings:
        raise InputError(f"No such unit. Received: unit={unit!r}. Give one of {', '.join(fillings)}.")
    at_once, fill = fillings[unit]
    remaining = iter(texts)
    # Read first, so that a missing file is refused before a model is loaded.
    some = list(islice(remaining, at_once))
    is_all = len(some) < at_once
    count = sum(most_syllables(text) for _, text in some) if is_all else None
    loaded = load_fill_mask(model, top_k=top_k, count=count)
    with tqdm(desc="fill-mask", unit="text", disable=None) as progress:
        while some:
            try:
                yield from fill(loaded, some, top_k, batch_size)
            except InputError:
                # Name the text in the error.
                for number, text in some:
                    try:
                        list(fill(loaded, [(number, text)], top_k, batch_size))
                    except InputError as error:
                        raise InputError(f"Text {number}: {error}") from error
                raise
            progress.update(len(some))
            some = list(islice(remaining, at_once))


def _fill_syllables(loaded: Any, texts: list[tuple[int, str]], top_k: int, _: int) -> Iterator[FilledText]:
    answers = fill_gaps([text for _, text in texts], model=loaded, top_k=top_k)
    for (number, text), gaps in zip(texts, answers, strict=True):
        guesses = [[(candidate.text, candidate.score) for candidate in candidates] for candidates in gaps]
        yield FilledText(number, text, guesses, fill_in(text, [each[0][0] if each else None for each in guesses]))


def _fill_pieces(loaded: Any, texts: list[tuple[int, str]], top_k: int, batch_size: int) -> Iterator[FilledText]:
    masks = fill_mask([text for _, text in texts], model=loaded, top_k=top_k, batch_size=batch_size)
    for row, group in groupby(masks, lambda mask: mask.text):
        filled: list[FilledMask] = list(group)
        guesses = [list(zip(mask.pieces, mask.probabilities, strict=True)) for mask in filled]
        number, text = texts[row]
        yield FilledText(number, text, guesses, filled[0].filled, "probability")


def write_filled(filled: Iterable[FilledText], path: str | os.PathLike[str], *, show_wylie: bool = False) -> int:
    """Write texts with their guesses to a file, which appears only when it is complete."""
    name = os.fspath(path)
    _check_format(name)
    count = 0
    with atomic_output(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for count, text in enumerate(filled, 1):
            if count == 1 and name.endswith(".tsv"):
                file.write(f"line\tgap\trank\tguess\t{text.measure}" + "\twylie" * show_wylie + "\n")
            file.writelines(_rows(text, show_wylie) if name.endswith(".tsv") else [_json_line(text, show_wylie)])
    return count


def _rows(text: FilledText, show_wylie: bool) -> Iterator[str]:
    for gap, guesses in enumerate(text.gaps, 1):
        for rank, (guess, score) in enumerate(guesses, 1):
            wylie = f"\t{to_wylie(guess)}" if show_wylie else ""
            yield f"{text.number}\t{gap}\t{rank}\t{guess}\t{score:.6g}{wylie}\n"


def _json_line(text: FilledText, show_wylie: bool) -> str:
    gaps = [
        [
            {"text": guess, text.measure: round(score, 6)} | ({"wylie": to_wylie(guess)} if show_wylie else {})
            for guess, score in guesses
        ]
        for guesses in text.gaps
    ]
    line = {"line": text.number, "text": text.text, "filled": text.filled, "gaps": gaps}
    return json.dumps(line, ensure_ascii=False) + "\n"


def _check_format(name: str) -> None:
    if not name.endswith((".tsv", ".jsonl")):
        raise InputError(f"The file's name says its format. Received: {name!r}. Let it end in .tsv or .jsonl.")
