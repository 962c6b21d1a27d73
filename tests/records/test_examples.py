"""Examples: what of a document goes where, nothing lost, nothing cut that need not be; segments; long documents."""

import itertools
import json

import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.records.examples import ExamplePolicy, Sections, Sequences, cut_document, lay_out

PAD, CLS, SEP = 0, 2, 3


def cut(parts, seed=0, **options):
    """The cuts of a document that is given in parts, each a list of sections."""
    joined = (Sections.join(part) for part in parts)
    return list(cut_document(joined, policy=ExamplePolicy(**options), rng=np.random.default_rng(seed)))


def arrange(cuts, **options):
    policy = ExamplePolicy(**options)
    if not cuts:
        empty = np.zeros((0, policy.max_seq_length), np.int32)
        return Sequences(empty, empty, np.zeros(0, np.int32))
    return lay_out(cuts, policy=policy, cls_token_id=CLS, sep_token_id=SEP, pad_token_id=PAD)


def pack(sections, seed=0, **options):
    return arrange(cut([sections], seed=seed, **options), **options).token_ids


def contents(rows):
    """The tokens of each sequence, without its special tokens, whose places are checked."""
    result = []
    for row in rows.tolist():
        end = row.index(SEP)
        assert row[0] == CLS and set(row[end + 1 :]) <= {PAD}
        assert not {CLS, SEP, PAD} & set(row[1:end])
        result.append(row[1:end])
    return result


def document(lengths, start=10):
    """Sections of these lengths of tokens that are all different."""
    numbers = itertools.count(start)
    return [list(itertools.islice(numbers, length)) for length in lengths]


def flat(sections):
    return [token for section in sections for token in section]


class TestOneWalk:
    def test_layout(self):
        rows = pack([[10, 11], [12], [13, 14, 15], [16, 17]], max_seq_length=7)
        assert rows.dtype == np.int32
        assert rows.tolist() == [[2, 10, 11, 12, 3, 0, 0], [2, 13, 14, 15, 16, 17, 3]]

    def test_nothing_is_lost(self):
        random = np.random.default_rng(0)
        for trial in range(200):
            sections = document(random.integers(1, random.choice([3, 10, 40]), random.integers(1, 30)))
            options = {"max_seq_length": int(random.integers(5, 20)), "short_seq_prob": random.choice([0.0, 0.5, 1.0])}
            packed = contents(pack(sections, seed=trial, **options))
            tokens, joined = flat(sections), flat(packed)
            assert joined in (tokens, tokens[:-1])
            assert all(2 <= len(part) <= options["max_seq_length"] - 2 for part in packed)

    def test_sections_stay_whole(self):
        random = np.random.default_rng(1)
        for trial in range(100):
            sections = document(random.integers(2, 11, random.integers(1, 40)))
            ends = np.cumsum([len(section) for section in sections]).tolist()
            for short in (0.0, 0.5):
                packed = contents(pack(sections, seed=trial, max_seq_length=12, short_seq_prob=short))
                assert set(np.cumsum([len(part) for part in packed]).tolist()) <= set(ends)

    def test_as_many_as_fit(self):
        sections = document(np.random.default_rng(2).integers(2, 11, 200))
        lengths = iter([len(section) for section in sections])
        expected = [[next(lengths)]]
        for length in lengths:
            if sum(expected[-1]) + length <= 30:
                expected[-1].append(length)
            else:
                expected.append([length])
        packed = contents(pack(sections, max_seq_length=32))
        assert [len(part) for part in packed] == [sum(lengths) for lengths in expected]

    @pytest.mark.parametrize(
        ("lengths", "packed"),
        [
            ([25], [10, 10, 5]),
            ([3, 25, 4], [3, 10, 10, 9]),  # What is left over goes on with the next section.
            ([21], [10, 10]),
            ([21, 3], [10, 10, 4]),
            ([1, 10, 4], [10, 5]),  # A single token is no sequence, so the next section is cut after all.
            ([10, 1], [10]),
            ([9, 1], [10]),
            ([1, 1], [2]),
        ],
    )
    def test_long_sections_and_single_tokens(self, lengths, packed):
        assert [len(part) for part in contents(pack(document(lengths), max_seq_length=12))] == packed

    @pytest.mark.parametrize("sections", [[], [[]], [[10]], [[], [10], []]])
    def test_too_little_for_a_sequence(self, sections):
        assert pack(sections, max_seq_length=8, offset_steps=3).shape == (0, 8)

    def test_empty_sections_do_not_matter(self):
        assert np.array_equal(pack([[], [10, 11], [], [12], []]), pack([[10, 11], [12]]))


class TestOffsets:
    def test_walk_k_starts_at_section_k_times_stride(self):
        sections = document([3, 4, 5, 2, 6, 3, 4])
        rows = pack(sections, max_seq_length=10, offset_steps=3, offset_stride=2)
        expected = [pack(sections[start:], max_seq_length=10) for start in (0, 2, 4)]
        assert np.array_equal(rows, np.concatenate(expected))

    def test_no_more_walks_than_there_are_starts(self):
        sections = document([4, 4, 4])
        rows = pack(sections, max_seq_length=6, offset_steps=9, offset_stride=2)
        assert [part[0] for part in contents(rows)] == [10, 14, 18, 18]
        # The last of these walks has one token.
        assert len(pack(document([4, 4, 1]), max_seq_length=6, offset_steps=3)) == 3

    def test_dupe_factor_repeats_the_walks(self):
        sections = document([3, 4, 5, 2, 6])
        once = pack(sections, max_seq_length=10, offset_steps=2)
        rows = pack(sections, max_seq_length=10, offset_steps=2, dupe_factor=3)
        assert np.array_equal(rows, np.tile(once, (3, 1)))
        # Where chance plays a part, each time anew.
        rows = pack(document([2] * 400), max_seq_length=12, short_seq_prob=0.5, dupe_factor=2)
        starts = [index for index, part in enumerate(contents(rows)) if part[0] == 10]
        assert len(starts) == 2 and rows[0 : starts[1]].tolist() != rows[starts[1] :].tolist()


class TestShortSequences:
    """Documents of 20,000 sections of 2 tokens, so that any even length can be had."""

    def lengths(self, probability, seed=0):
        rows = pack(document([2] * 20_000), seed=seed, max_seq_length=42, short_seq_prob=probability)
        return np.array([len(part) for part in contents(rows)][:-1])

    def test_never(self):
        assert set(self.lengths(0.0)) == {40}

    def test_drawn_for_each_sequence_of_a_document(self):
        # Google draws once a document, and all of its sequences are long or short.
        lengths = self.lengths(0.1)
        assert np.mean(lengths < 40) == pytest.approx(0.1 * 38 / 39, abs=0.02)

    def test_any_length(self):
        # Aiming at 2 to 40: two aims give each even length, but one gives 40.
        lengths, counts = np.unique(self.lengths(1.0), return_counts=True)
        assert lengths.tolist() == list(range(2, 41, 2))
        np.testing.assert_allclose(counts / counts.sum(), [2 / 39] * 19 + [1 / 39], atol=0.015)

    def test_the_seed_decides(self):
        assert np.array_equal(self.lengths(0.5, seed=1), self.lengths(0.5, seed=1))
        assert self.lengths(0.5, seed=1).tolist() != self.lengths(0.5, seed=2).tolist()


class TestParts:
    def parts(self, sections, random):
        """The sections in parts of random sizes, some of them empty."""
        places = np.sort(random.integers(0, len(sections) + 1, random.integers(0, 12))).tolist()
        return [sections[begin:end] for begin, end in itertools.pairwise([0, *places, len(sections)])]

    def test_parts_do_not_matter(self):
        random = np.random.default_rng(0)
        for trial in range(100):
            sections = document(random.integers(0, random.choice([3, 10, 40]), random.integers(1, 30)))
            options = {
                "max_seq_length": int(random.integers(5, 20)),
                "short_seq_prob": random.choice([0.0, 0.5]),
                "offset_steps": int(random.integers(1, 4)),
                "offset_stride": int(random.integers(1, 4)),
                "dupe_factor": int(random.integers(1, 3)),
                "sop": bool(random.integers(2)),
            }
            expected = arrange(cut([sections], seed=trial, **options), **options)
            found = arrange(cut(self.parts(sections, random), seed=trial, **options), **options)
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))

    @pytest.mark.parametrize("sop", [False, True])
    def test_a_document_larger_than_the_window(self, monkeypatch, sop):
        random = np.random.default_rng(1)
        for trial in range(150):
            sections = document(random.integers(0, random.choice([3, 10, 40]), random.integers(20, 60)))
            tokens, ends = flat(sections), np.cumsum([0, *map(len, sections)]).tolist()
            options = {
                "max_seq_length": int(random.integers(6, 20)),
                "short_seq_prob": random.choice([0.0, 0.5]),
                "offset_steps": int(random.integers(1, 4)),
                "offset_stride": int(random.integers(1, 4)),
                "dupe_factor": int(random.integers(1, 3)),
                "sop": sop,
            }
            monkeypatch.setattr("tibert_keras.records.examples._WINDOW", int(random.choice([1, 40, 200])))
            cuts = cut(self.parts(sections, random), seed=trial, **options)
            starts = [ends[k * options["offset_stride"]] for k in range(options["offset_steps"])] * options[
                "dupe_factor"
            ]
            # The cuts do not name their walk: it is one that goes on where they begin.
            waiting = list(starts)
            for part in cuts:
                bounds = part.bounds.reshape(len(part.bounds), -1)
                begin, end = bounds.min(axis=1), bounds.max(axis=1)
                assert begin[1:].tolist() == end[:-1].tolist()
                content = part.token_ids[begin[0] : end[-1]].tolist()
                position = content[0] - 10
                waiting.remove(position)
                waiting.append(position + len(content))
                assert content == tokens[position : waiting[-1]]
            assert all(position >= len(tokens) - 1 for position in waiting)

    def test_long_documents_are_cut_like_short_ones(self, monkeypatch):
        random = np.random.default_rng(2)
        sections = document(random.integers(1, 30, 300))
        expected = pack(sections, max_seq_length=16)
        monkeypatch.setattr("tibert_keras.records.examples._WINDOW", 40)
        for _ in range(10):
            assert np.array_equal(
                arrange(cut(self.parts(sections, random), max_seq_length=16), max_seq_length=16)[0], expected
            )

    def test_memory_holds_a_window(self, monkeypatch):
        monkeypatch.setattr("tibert_keras.records.examples._WINDOW", 400)
        sections = document(np.random.default_rng(3).integers(1, 30, 2000))
        parts = [sections[begin : begin + 5] for begin in range(0, 2000, 5)]
        cuts = cut(parts, max_seq_length=16, offset_steps=3, dupe_factor=2, sop=True)
        assert len(cuts) > 6 * 50
        assert max(len(part.token_ids) for part in cuts) < 400 + 5 * 29 + 3 * 29

    def test_documents_laid_out_together(self):
        for sop in (False, True):
            options = {"max_seq_length": 12, "offset_steps": 2, "sop": sop}
            lengths = np.random.default_rng(4).integers(1, 12, (20, 9))
            cuts = [
                cut([document(row, start=100 * number)], seed=number, **options)
                for number, row in enumerate(lengths, 1)
            ]
            together = arrange(list(itertools.chain.from_iterable(cuts)), **options)
            alone = [arrange(document_cuts, **options) for document_cuts in cuts]
            for name in Sequences._fields:
                expected = np.concatenate([getattr(sequences, name) for sequences in alone])
                assert np.array_equal(getattr(together, name), expected)


class TestSegments:
    def pairs(self, sections, seed=0, **options):
        """A and B of each sequence in the order of the text, whether they are swapped, and the places checked."""
        options |= {"sop": True}
        rows = arrange(cut([sections], seed=seed, **options), **options)
        assert [array.dtype for array in rows] == [np.int32] * 3
        result = []
        for ids, segment_ids, is_swapped in zip(*(array.tolist() for array in rows), strict=True):
            middle = ids.index(SEP)
            end = ids.index(SEP, middle + 1)
            assert ids[0] == CLS and set(ids[end + 1 :]) <= {PAD}
            first, second = ids[1:middle], ids[middle + 1 : end]
            assert first and second and not {CLS, SEP, PAD} & {*first, *second}
            assert segment_ids == [0] * (middle + 1) + [1] * (end - middle) + [0] * (len(ids) - end - 1)
            assert is_swapped in (0, 1)
            result.append((second, first, 1) if is_swapped else (first, second, 0))
        return result

    def test_layout(self):
        found = set()
        for seed in range(9):
            rows = arrange(cut([[[10, 11], [12]]], seed=seed, max_seq_length=7, sop=True), max_seq_length=7)
            found.add(str([array.tolist() for array in rows]))
        in_order = [[[2, 10, 11, 3, 12, 3, 0]], [[0, 0, 0, 0, 1, 1, 0]], [0]]
        swapped = [[[2, 12, 3, 10, 11, 3, 0]], [[0, 0, 0, 1, 1, 1, 0]], [1]]
        assert found == {str(in_order), str(swapped)}

    def test_nothing_is_lost(self):
        random = np.random.default_rng(0)
        for trial in range(200):
            sections = document(random.integers(1, random.choice([3, 10, 40]), random.integers(1, 30)))
            size = int(random.integers(5, 20))
            expected = contents(pack(sections, max_seq_length=size - 1)) if size > 5 else None
            joined = [a + b for a, b, _ in self.pairs(sections, seed=trial, max_seq_length=size)]
            # One [SEP] more leaves room for one token less.
            assert expected in (None, joined)
            assert flat(joined) in (flat(sections), flat(sections)[:-1])

    def test_parted_between_sections_if_there_are_two(self):
        random = np.random.default_rng(1)
        for trial in range(100):
            sections = document(random.integers(1, random.choice([4, 12, 30]), random.integers(1, 40)))
            ends = set(np.cumsum([10, *map(len, sections)]).tolist())
            for a, b, _ in self.pairs(sections, seed=trial, max_seq_length=16, short_seq_prob=0.2):
                assert a[-1] + 1 == b[0]
                assert b[0] in ends or not ends & set(range(a[0] + 1, b[-1] + 1))

    def test_half_are_swapped(self):
        labels = [label for _, _, label in self.pairs(document([5] * 10_000), max_seq_length=13)]
        assert len(labels) == 5000
        assert np.mean(labels) == pytest.approx(0.5, abs=0.025)
        # One does not follow from the one before.
        assert np.corrcoef(labels[1:], labels[:-1])[0, 1] == pytest.approx(0, abs=0.05)

    @pytest.mark.parametrize("lengths", [[2, 1, 3, 1, 2], [6]])
    def test_every_boundary_is_as_likely(self, lengths):
        total = sum(lengths)
        sections = document(lengths * 5000)
        pairs = self.pairs(sections, max_seq_length=total + 3)
        places, counts = np.unique([len(a) for a, _, _ in pairs], return_counts=True)
        expected = np.cumsum(lengths)[:-1].tolist() if len(lengths) > 1 else [*range(1, total)]
        assert places.tolist() == expected
        np.testing.assert_allclose(counts / 5000, 1 / len(expected), atol=0.025)


class TestGoogle:
    @pytest.fixture
    def golden(self, shared):
        """The documents of Google's records, as sections of token ids, and what is known of the records."""
        folder = shared / "golden" / "records"
        tokens = np.load(folder / "tokens.npz")
        sections = [row.tolist() for row in np.split(tokens["ids"], tokens["offsets"][1:-1])]
        documents = [list(group) for is_text, group in itertools.groupby(sections, bool) if is_text]
        return documents, json.loads((folder / "stats.json").read_text(encoding="utf-8"))["a"]

    def test_segments(self, golden):
        documents, stats = golden
        assert len(documents) == 26
        options = {"max_seq_length": 128, "short_seq_prob": 0.05, "dupe_factor": 2, "sop": True}
        cuts = [part for seed, sections in enumerate(documents) for part in cut([sections], seed=seed, **options)]
        rows = arrange(cuts, **options)
        google = stats["sentence_order_label_histogram"]
        # Two samples of about 300: a standard deviation of their difference is 4 points.
        assert np.mean(rows.is_swapped) == pytest.approx(google["1"] / sum(google.values()), abs=0.12)
        # How many tokens the first segment has. Google fills a sequence beyond its room and shortens the longer
        # segment, often to half the room; ours are whole sections, and so differ by 0.1 there in the long run too.
        first = {int(length): count for length, count in stats["segment_a_length_histogram"].items()}
        theirs = np.bincount(list(first), list(first.values()), minlength=128).cumsum() / sum(first.values())
        ours = np.bincount(np.argmax(rows.token_ids == SEP, axis=1) - 1, minlength=128).cumsum() / len(rows.token_ids)
        assert np.abs(ours - theirs).max() < 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seq_length": 4}, "max_seq_length must be from 5 to 65536. Received: 4"),
        ({"short_seq_prob": 1.5}, "Received: 1.5"),
        ({"offset_steps": 0}, "offset_steps must be positive. Received: offset_steps=0"),
        ({"offset_stride": 0}, "Received: offset_stride=0"),
        ({"dupe_factor": 0}, "Received: dupe_factor=0"),
    ],
)
def test_bad_policy(options, message):
    with pytest.raises(InputError, match=message):
        ExamplePolicy(**options)
