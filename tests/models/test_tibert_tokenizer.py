"""The tokenizer: Google's ids, Python and graph alike, masks in the text, marks between syllables, sampling."""

import itertools
import re
import unicodedata

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from keras import ops
from sentencepiece import sentencepiece_model_pb2

from tests.support.base import TestCase
from tibert_keras import TibertTokenizer  # Ties the classes that a preset consists of.
from tibert_keras.errors import InputError
from tibert_keras.formats.hugging_face_tokenizer import write_tokenizer
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.normalization import normalize_text

MARKS = "༄༅༈་༌།༑༔༜྾"
MASKED = ["[MASK]", " [MASK] ", "[MASK][MASK]", "[MASK] [MASK]", "ཀ[MASK]ཁ", "ཀ་[MASK]་ཁ", "ཀ། [MASK] །ཁ"]
MASKED += ["ཀ།\u3000[MASK]།\t[MASK]  ཁ", "[MASK]། །ཀ"]
UNMASKED = ["", " ", "་", "ཀ  ཁ\u00a0", "༄༅༅། །ཀ", '("-.–£€)', "[ MASK]", "[CLS]ཀ[SEP]<pad>", "ཨོཾ༌མ", "Latin 12", "རྡཹ"]
OPTIONS = [
    pytest.param(tsheg, underline, id=f"tsheg_{tsheg}-underline_{underline}")
    for tsheg, underline in itertools.product([False, True], repeat=2)
]


@pytest.fixture(scope="module")
def golden(shared):
    """The SentencePiece model and the text that Google's records were made of."""
    return shared / "golden" / "records"


@pytest.fixture(scope="module")
def golden_lines(golden):
    return (golden / "input.txt").read_text(encoding="utf-8").split("\n")[:-1]


@pytest.fixture(scope="module")
def sample_lines(sample_corpus):
    return [line for line in (sample_corpus / "train_0.txt").read_text(encoding="utf-8").split("\n") if line]


def model(pieces: str, control: str = "<pad> <unk> [CLS] [SEP] [MASK]") -> bytes:
    """A unigram model with these pieces, the longer the better."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    proto.trainer_spec.pad_id, proto.trainer_spec.unk_id = 0, 1
    proto.trainer_spec.bos_id = proto.trainer_spec.eos_id = -1
    for piece in control.split():
        kind = proto.SentencePiece.UNKNOWN if piece == "<unk>" else proto.SentencePiece.CONTROL
        proto.pieces.add(piece=piece, score=0.0, type=kind)
    for piece in pieces.split():
        proto.pieces.add(piece=piece, score=-1 - 1 / len(piece))
    return proto.SerializeToString()


def in_graph(tokenizer, texts, batch_size=256):
    """The token lists of texts that pass through a `tf.data` pipeline in batches."""
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(batch_size).map(tokenizer)
    return [row for batch in batches for row in batch.to_list()]


@pytest.mark.any_backend
class TestIds(TestCase):
    def test_google(self, golden, golden_lines):
        tokens = np.load(golden / "tokens.npz")
        expected = [row.tolist() for row in np.split(tokens["ids"], tokens["offsets"][1:-1])]
        assert len(golden_lines) == len(expected) == 2024
        assert TibertTokenizer(str(golden / "bo.model")).encode(golden_lines) == expected

    @pytest.mark.parametrize(
        ("tsheg", "underline"), [*OPTIONS, pytest.param(False, "between"), pytest.param(True, "between")]
    )
    def test_python_and_graph_agree(self, golden, golden_lines, tsheg, underline):
        tokenizer = TibertTokenizer(
            str(golden / "bo.model"), tsheg_pretokenization=tsheg, underline_between_sections=underline
        )
        texts = [*golden_lines, *MASKED, *UNMASKED]
        assert in_graph(tokenizer, texts) == tokenizer(texts) == tokenizer.encode(texts)

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    def test_text_without_masks_encodes_as_by_the_model_alone(self, spm_models, sample_lines, kind):
        texts = [*sample_lines, *UNMASKED]
        alone = sentencepiece.SentencePieceProcessor(model_file=spm_models[kind])
        assert TibertTokenizer(spm_models[kind]).encode(texts) == alone.Encode(texts)

    @pytest.mark.parametrize(("tsheg", "underline"), OPTIONS)
    def test_no_character_is_lost(self, spm_models, sample_lines, tsheg, underline):
        tokenizer = TibertTokenizer(
            spm_models["bpe"], tsheg_pretokenization=tsheg, underline_between_sections=underline
        )
        expected = sample_lines if underline else [line.replace(" ", "") for line in sample_lines]
        # With its spaces written out, the text comes back with the one before its first section.
        assert [text.removeprefix(" ") for text in tokenizer.detokenize(tokenizer(sample_lines))] == expected

    def test_few_pieces_of_running_text_begin_with_a_combining_mark(self, golden, golden_lines):
        # 1.3% here; a text whose vowel signs are cut off their letters has ten times as many.
        pieces = TibertTokenizer(str(golden / "bo.model"), dtype="string")(golden_lines)
        first = [piece.lstrip("▁")[:1] or "▁" for row in pieces for piece in row]
        share = sum(unicodedata.category(letter).startswith("M") for letter in first) / len(first)
        assert 0.005 < share < 0.03


@pytest.mark.any_backend
class TestMasks(TestCase):
    @pytest.mark.parametrize(
        ("text", "pieces"),
        [
            ("[MASK]", "[MASK]"),
            ("  [MASK] ", "[MASK]"),
            ("[MASK][MASK]", "[MASK] [MASK]"),
            ("[MASK] [MASK]", "[MASK] [MASK]"),
            ("ཀ[MASK]ཁ", "▁ཀ [MASK] ཁ"),
            ("ཀ་[MASK]་ཁ", "▁ཀ ་ [MASK] ་ཁ"),
            ("[MASK]ཁ", "[MASK] ཁ"),
            ("ཀ [MASK]", "▁ཀ [MASK]"),
            ("ཀ [MASK] ཀ", "▁ཀ [MASK] ▁ཀ"),
            ("ཁ [MASK] ཁ", "▁ ཁ [MASK] ▁ ཁ"),
            ("[ MASK]", "▁ <unk> ▁ <unk>"),
        ],
    )
    def test_where_a_mask_may_stand(self, text, pieces):
        tokenizer = TibertTokenizer(model("▁ ཀ ཁ ་ ▁ཀ ་ཁ"))
        assert [tokenizer.id_to_token(i) for i in tokenizer(text).tolist()] == pieces.split()

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    @pytest.mark.parametrize(("tsheg", "underline"), OPTIONS)
    def test_every_mask_is_found_and_takes_its_space(self, spm_models, kind, tsheg, underline):
        tokenizer = TibertTokenizer(spm_models[kind], tsheg_pretokenization=tsheg, underline_between_sections=underline)
        for text, tokens in zip(MASKED, tokenizer.encode(MASKED), strict=True):
            assert tokens.count(tokenizer.mask_token_id) == text.count("[MASK]")
            assert (tokenizer.token_to_id("▁"), tokenizer.mask_token_id) not in itertools.pairwise(tokens)
        assert in_graph(tokenizer, MASKED, batch_size=4) == tokenizer.encode(MASKED)


@pytest.mark.any_backend
class TestMarksAndSpaces(TestCase):
    @pytest.mark.parametrize("mark", MARKS)
    def test_no_piece_crosses_a_mark(self, mark):
        proto = model(f"▁ ཀ ཁ {mark} ཀ{mark}ཁ {mark}ཁ ཀ{mark}")
        assert self.pieces(TibertTokenizer(proto), f"ཀ{mark}ཁ") == ["▁", f"ཀ{mark}ཁ"]
        cut = TibertTokenizer(proto, tsheg_pretokenization=True)
        assert self.pieces(cut, f"ཀ{mark}ཁ{mark}{mark}") == ["▁", f"ཀ{mark}", "ཁ", mark, mark]

    def test_no_piece_of_the_canon_crosses_a_mark(self, golden, golden_lines):
        def crossing(**kwargs):
            pieces = TibertTokenizer(str(golden / "bo.model"), dtype="string", **kwargs)(golden_lines)
            return [piece for row in pieces for piece in row if set(piece[:-1]) & set(MARKS)]

        assert crossing()
        assert not crossing(tsheg_pretokenization=True)
        assert not crossing(tsheg_pretokenization=True, underline_between_sections=False)

    @pytest.mark.parametrize(
        ("tsheg", "underline", "pieces"),
        [
            (False, True, "▁ ཀ་ཁ། ▁།ཀ"),
            (False, False, "ཀ་ཁ། ། ཀ"),
            (True, True, "▁ ཀ་ ཁ ། ▁ ། ཀ"),
            (True, False, "ཀ་ ཁ ། ། ཀ"),
            (False, "between", "ཀ་ཁ། ▁ ། ཀ"),
            (True, "between", "ཀ་ ཁ ། ▁ ། ཀ"),
        ],
    )
    def test_what_the_options_do(self, tsheg, underline, pieces):
        proto = model("▁ ཀ ཁ ་ ། ཀ་ ཀ་ཁ། ▁།ཀ")
        tokenizer = TibertTokenizer(proto, tsheg_pretokenization=tsheg, underline_between_sections=underline)
        assert self.pieces(tokenizer, " ཀ་ཁ།  །ཀ ") == pieces.split()

    def test_underlines_between_sections_only(self, spm_models, tmp_path):
        """Also before a mask, which replaces a piece without its space then."""
        options = {"tsheg_pretokenization": True, "underline_between_sections": "between"}
        tokenizer = TibertTokenizer(spm_models["bpe"], **options)
        pieces = [tokenizer.id_to_token(token) for token in tokenizer.encode(["བཀྲ་  ཤིས [MASK]"])[0]]
        assert pieces.count("▁") == 2 and pieces[-2:] == ["▁", "[MASK]"]
        assert not [piece for piece in pieces if piece.startswith("▁") and piece != "▁"]
        assert TibertTokenizer.from_config(tokenizer.get_config()).underline_between_sections == "between"
        with pytest.raises(InputError, match="Received: underline_between_sections='between'"):
            tokenizer.encode_syllables([["ཀ་"]])
        with pytest.raises(InputError, match="no form for this option. Received: underline_between_sections='between'"):
            write_tokenizer(tokenizer, tmp_path, max_length=16)
        with pytest.raises(InputError, match="Received: underline_between_sections='before'"):
            TibertTokenizer(spm_models["bpe"], underline_between_sections="before")

    @pytest.mark.parametrize(("tsheg", "underline"), OPTIONS)
    def test_all_kinds_of_space_are_one(self, spm_models, tsheg, underline):
        tokenizer = TibertTokenizer(
            spm_models["bpe"], tsheg_pretokenization=tsheg, underline_between_sections=underline
        )
        recipe = sentencepiece.SentencePieceNormalizer(
            rule_name="nmt_nfkc", add_dummy_prefix=False, remove_extra_whitespaces=False, escape_whitespaces=False
        )
        letters = (chr(code) for code in range(1, 0x10000) if not 0xD800 <= code < 0xE000)
        spaces = [letter for letter in letters if recipe.Normalize(f"ཀ{letter}ཁ") == "ཀ ཁ"]
        # Those without width are no spaces to us.
        spaces = [space for space in spaces if normalize_text(space)]
        assert len(spaces) > 20
        texts = [text for space in spaces for text in (f"ཀ{space}ཁ", f"{space}ཀ{space}{space}ཁ{space}")]
        expected = tokenizer("ཀ ཁ").tolist()
        assert tokenizer(texts) == [expected] * len(texts)
        assert in_graph(tokenizer, texts) == [expected] * len(texts)

    def pieces(self, tokenizer, text):
        return [tokenizer.id_to_token(i) for i in tokenizer(text).tolist()]


class TestShapes(TestCase):
    def test_python(self, spm_models, sample_lines):
        tokenizer = TibertTokenizer(spm_models["bpe"])
        batch = tokenizer(sample_lines[:3])
        assert [type(row) for row in batch] == [list] * 3
        scalar = tokenizer(sample_lines[0])
        assert (scalar.dtype, scalar.ndim, scalar.tolist()) == ("int32", 1, batch[0])
        assert tokenizer([]) == [] and tokenizer([""]) == [[]]

    @pytest.mark.any_backend
    def test_graph(self, spm_models, sample_lines):
        tokenizer = TibertTokenizer(spm_models["bpe"])
        scalars = tf.data.Dataset.from_tensor_slices(sample_lines[:3]).map(tokenizer)
        assert scalars.element_spec == tf.TensorSpec([None], tf.int32)
        assert [row.numpy().tolist() for row in scalars] == tokenizer(sample_lines[:3])
        empty = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string)).map(tokenizer)
        assert next(iter(empty)).to_list() == []
        with pytest.raises(ValueError, match=r"Received: shape \(1, 2\)"):
            tf.data.Dataset.from_tensors([sample_lines[:2]]).map(tokenizer)

    def test_sequence_length(self, spm_models, sample_lines):
        tokenizer = TibertTokenizer(spm_models["bpe"], sequence_length=12)
        texts = [*sample_lines[:5], "ཀ", ""]
        rows = TibertTokenizer(spm_models["bpe"]).encode(texts)
        assert min(map(len, rows)) < 12 < max(map(len, rows))
        expected = [(row + [0] * 12)[:12] for row in rows]
        dataset = tf.data.Dataset.from_tensor_slices(texts)
        assert np.array_equal(ops.convert_to_numpy(tokenizer(texts)), expected)
        assert np.array_equal([row.numpy() for row in dataset.map(tokenizer)], expected)
        batches = dataset.batch(7, drop_remainder=True).map(tokenizer)
        assert batches.element_spec == tf.TensorSpec([7, 12], tf.int32)
        assert np.array_equal(next(iter(batches)), expected)

    @pytest.mark.any_backend
    @pytest.mark.parametrize(("tsheg", "underline"), OPTIONS)
    def test_strings(self, spm_models, sample_lines, tsheg, underline):
        flags = {"tsheg_pretokenization": tsheg, "underline_between_sections": underline}
        ids, strings = (TibertTokenizer(spm_models["bpe"], dtype=dtype, **flags) for dtype in ("int32", "string"))
        texts = [*sample_lines, *MASKED]
        pieces = strings(texts)
        # An unknown piece is spelled as in the text, and so has no id of its own.
        assert [[ids.token_to_id(piece) for piece in row] for row in pieces] == ids(texts)
        assert [[piece.decode() for piece in row] for row in in_graph(strings, texts)] == pieces


@pytest.mark.any_backend
class TestSampling(TestCase):
    @pytest.fixture(params=["bpe", "unigram"])
    def tokenizer(self, spm_models, request):
        return TibertTokenizer(spm_models[request.param], nbest_size=64, alpha=0.1)

    @pytest.mark.parametrize("options", [{"nbest_size": [1]}, {"nbest_size": 10**30}, {"alpha": "x"}])
    def test_options_of_another_type(self, spm_models, options):
        with pytest.raises(InputError, match="nbest_size is an integer from -1 and alpha a number. Received: "):
            TibertTokenizer(spm_models["bpe"], **options)

    def test_draws_differ(self, tokenizer, sample_lines):
        first, second = (tokenizer.encode(sample_lines) for _ in range(2))
        assert sum(a != b for a, b in zip(first, second, strict=True)) > len(sample_lines) / 2
        assert tokenizer.detokenize(first) == tokenizer.detokenize(second) == self.best(tokenizer, sample_lines)

    def test_draws_differ_in_a_graph(self, tokenizer, sample_lines):
        first, second = (in_graph(tokenizer, sample_lines) for _ in range(2))
        assert sum(a != b for a, b in zip(first, second, strict=True)) > len(sample_lines) / 2
        assert tokenizer.detokenize(first) == self.best(tokenizer, sample_lines)

    def best(self, tokenizer, lines):
        """The lines as they come back without sampling; the unigram recipe leaves out the rarest letters."""
        plain = TibertTokenizer(tokenizer.proto)
        return plain.detokenize(plain.encode(lines))


@pytest.mark.any_backend
class TestSyllables(TestCase):
    def test_where_they_start(self):
        tokenizer = TibertTokenizer(model("▁ ཀ ཁ ་ ། ▁ཀ ཀ་ ཁ་ཀ ་ཁ"))
        starts = {
            "[CLS] ▁ཀ ་ ཁ ། ▁ ། [SEP] <pad> <pad>": [1, 1, 0, 1, 0, 1, 0, 1, 1, 1],
            "ཀ ཀ་ ཀ ཁ": [1, 0, 1, 0],
            # A piece with parts of two syllables goes with the former.
            "ཀ ཁ་ཀ ། ཀ ་ཁ ་ ཀ": [1, 0, 0, 1, 0, 0, 1],
            "[CLS] ཁ [MASK] ་ [MASK] [MASK] ཀ <unk> [SEP] ཀ": [1, 1, 1, 1, 1, 1, 1, 0, 1, 1],
        }
        for pieces, expected in starts.items():
            ids = np.array([tokenizer.token_to_id(piece) for piece in pieces.split()])
            before = ids.copy()
            for rows in (ids, ids[None], np.stack([ids, ids])[None]):
                found = tokenizer.starts_syllable(rows)
                assert (found.dtype, found.shape) == (bool, rows.shape)
                assert np.array_equal(found, np.broadcast_to(np.array(expected, bool), rows.shape))
            assert np.array_equal(ids, before)

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    @pytest.mark.parametrize(("tsheg", "underline"), OPTIONS)
    def test_whole_syllables_lie_between(self, spm_models, sample_lines, kind, tsheg, underline):
        tokenizer = TibertTokenizer(spm_models[kind], tsheg_pretokenization=tsheg, underline_between_sections=underline)
        found = []
        for ids in map(np.array, tokenizer.encode(sample_lines)):
            starts = tokenizer.starts_syllable(ids)
            assert starts[0]
            groups = np.split(ids, np.flatnonzero(starts)[1:])
            texts = ["".join(tokenizer.id_to_token(int(i)) for i in group) for group in groups]
            for text, following in zip(texts, [*texts[1:], "▁"], strict=True):
                assert text[-1] in MARKS or following[0] == "▁"
            found += texts
        # Nor are they much more than one.
        assert np.mean([sum(text.count(mark) for mark in MARKS) for text in found]) < 2.5
        if tsheg:
            assert not [text for text in found if set(text[:-1]) & set(MARKS)]

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    @pytest.mark.parametrize("underline", [True, False])
    def test_syllables_by_themselves(self, spm_models, sample_lines, kind, underline):
        tokenizer = TibertTokenizer(spm_models[kind], tsheg_pretokenization=True, underline_between_sections=underline)
        texts = [*sample_lines, *MASKED, *UNMASKED]
        syllables = [re.findall(f"[^{MARKS}]*[{MARKS}]|[^{MARKS}]+", text) for text in texts]
        encoded = tokenizer.encode_syllables(syllables)
        assert [len(text) for text in encoded] == [len(text) for text in syllables]
        assert [[piece for part in text for piece in part] for text in encoded] == tokenizer.encode(texts)

    def test_spaces_between_syllables(self, spm_models):
        tokenizer = TibertTokenizer(spm_models["bpe"], tsheg_pretokenization=True)
        first, none, second = tokenizer.encode_syllables([["ཀ", " ", "ཁ"]])[0]
        assert none == [] and [first, second] == tokenizer.encode(["ཀ", "ཁ"])
        for parts in (["ཀ ", "ཁ"], ["ཀ", " ཁ"], [" ཀ ", " ཁ "]):
            assert tokenizer.encode_syllables([parts]) == [[first, second]]
        assert tokenizer.encode_syllables([["ཀ", "ཁ"]])[0][1] != second
        assert tokenizer.encode_syllables([]) == [] and tokenizer.encode_syllables([[]]) == [[]]


class TestVocabularyAndSaving(TestCase):
    def test_ordinary_pieces(self, spm_models):
        tokenizer = TibertTokenizer(spm_models["bpe"])
        assert tokenizer.ordinary_token_ids.tolist() == list(range(5, 400))

    def test_control_pieces_of_other_models_are_not_ordinary(self):
        tokenizer = TibertTokenizer(model("▁ ཀ", control="<pad> <unk> <s> [CLS] [SEP] [MASK] </s>"))
        assert tokenizer.ordinary_token_ids.tolist() == [7, 8]

    @pytest.mark.parametrize("missing", ["<pad>", "[CLS]", "[SEP]", "[MASK]"])
    def test_missing_special_piece(self, missing):
        control = " ".join({"<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"} - {missing})
        with pytest.raises(InputError, match=f"special.*'{re.escape(missing)}'"):
            TibertTokenizer(model("▁ ཀ", control=control))

    @pytest.mark.parametrize("proto", [b"", b"no model", "ཀ་ཁ།".encode()])
    def test_not_a_model(self, proto):
        with pytest.raises(InputError, match="Not a SentencePiece model.*Received: "):
            TibertTokenizer(proto)

    def test_a_piece_twice(self):
        """As a file that was appended to itself."""
        with pytest.raises(InputError, match="pieces twice. Received: "):
            TibertTokenizer(model("▁ ཀ") * 2)

    def test_no_room_for_the_packers_tokens(self, spm_models):
        with pytest.raises(InputError, match="Received: add_bos or add_eos"):
            TibertTokenizer(spm_models["bpe"], add_bos=True)

    def test_config(self, spm_models):
        options = {
            "tsheg_pretokenization": True,
            "underline_between_sections": False,
            "nbest_size": 64,
            "alpha": 0.1,
            "sequence_length": 9,
        }
        tokenizer = TibertTokenizer(spm_models["bpe"], **options)
        copy = self.run_serialization_test(tokenizer)
        assert {name: copy.get_config()[name] for name in options} == options

    def test_a_configuration_holds_no_vocabulary(self, spm_models, tmp_path):
        copy = TibertTokenizer.from_config(TibertTokenizer(spm_models["bpe"]).get_config())
        with pytest.raises(InputError, match="The tokenizer has no vocabulary.* Received: proto=None. Give the model"):
            copy.save_assets(str(tmp_path))

    def test_preset_folder(self, spm_models, sample_lines, tmp_path):
        tokenizer = TibertTokenizer(spm_models["bpe"], tsheg_pretokenization=True, underline_between_sections=False)
        # KerasHub looks for a tokenizer beside its backbone.
        TibertBackbone.from_preset("tibert_nano", vocabulary_size=400).save_to_preset(str(tmp_path))
        tokenizer.save_to_preset(str(tmp_path))
        copy = TibertTokenizer.from_preset(str(tmp_path))
        assert copy.get_config() == tokenizer.get_config()
        texts = [*sample_lines, *MASKED]
        assert copy(texts) == tokenizer(texts)
        assert copy.ordinary_token_ids.tolist() == tokenizer.ordinary_token_ids.tolist()
