"""The spelling of a text before it is encoded: the same in a graph, and in Hugging Face's library, as in Python."""

import random
import unicodedata
from pathlib import Path

import pytest
import tensorflow as tf

from tibert_keras import TibertTokenizer
from tibert_keras.formats.hugging_face_tokenizer import write_tokenizer
from tibert_keras.models.text_in_graph import normalize_in_graph, read_syllables_in_graph
from tibert_keras.normalization import NORMALIZATIONS, normalize_text
from tibert_keras.tagging.words import split_syllables
from tibert_keras.tibetan import SIGNS, SYLLABLE_PATTERN
from tibert_keras.tokenizers.sentence_piece import normalization_of
from tibert_keras.transcription import read_syllable

MARKS = [sign for sign in SIGNS if unicodedata.category(sign) == "Mn" and unicodedata.combining(sign)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Any signs of the block in any order, and stacks of many signs on a letter."""
    draw = random.Random(0)
    others = ["\u00a0", "\u200b", "\u200d", "\u2060", "\ufeff", " ", "x", "[MASK]"]
    found = ["".join(draw.choices([*SIGNS, *others], k=draw.randrange(1, 24))) for _ in range(1500)]
    found += ["ཧ" + "".join(draw.choices(MARKS, k=draw.randrange(1, 9))) + "་" for _ in range(1500)]
    return [*found, "", " ", "ཧ\u0f74\u0f71\u0f83", "\u0f83", "\u0f74"]


@pytest.fixture(scope="module")
def tokenizer(spm_models) -> TibertTokenizer:
    return TibertTokenizer(spm_models["bpe"])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_graph_normalizes_as_python_does(texts, normalization):
    graph = tf.function(lambda batch: normalize_in_graph(batch, normalization), input_signature=[
        tf.TensorSpec([None], tf.string)
    ])  # fmt: skip
    assert [text.decode() for text in graph(tf.constant(texts)).numpy()] == [
        normalize_text(text, normalization) for text in texts
    ]
    assert graph(tf.constant([], tf.string)).shape == [0]


def test_a_graph_reads_syllables_as_python_does(texts):
    lines = [text.replace("x", "\n").replace("[MASK]", " [2a.1] ") for text in texts]
    units = [unit for line in lines for unit in split_syllables(line)]
    marked = tf.strings.regex_replace(lines, f"({SYLLABLE_PATTERN})", b"\\1\xff")
    assert b"".join(marked.numpy()).split(b"\xff")[:-1] == [unit.encode() for unit in units]
    assert [unit.decode() for unit in read_syllables_in_graph(tf.constant(units)).numpy()] == [
        read_syllable(unit) for unit in units
    ]


def test_ids_of_all_spellings_are_the_same_everywhere(texts, tokenizer, tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="the extra `huggingface` is not installed")
    assert tokenizer.normalization == "tibetan" == normalization_of(tokenizer.proto)
    ids = tokenizer.encode(texts)
    (in_graph,) = tf.data.Dataset.from_tensors(texts).map(tokenizer)
    assert in_graph.to_list() == ids
    assert tokenizer.encode([unicodedata.normalize("NFD", text) for text in texts]) == ids
    assert tokenizer.encode([normalize_text(text) for text in texts]) == ids
    write_tokenizer(tokenizer, tmp_path, max_length=32)
    fast = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [row.ids for row in fast.encode_batch(texts, add_special_tokens=False)] == ids


def test_a_model_without_a_name_of_ours_stays_as_it_was(spm_models, texts):
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(Path(spm_models["bpe"]).read_bytes())
    proto.normalizer_spec.name = "nmt_nfkc"
    older = TibertTokenizer(proto.SerializeToString())
    assert older.normalization == "none"
    first, second = older.encode(["ཧ\u0f71\u0f74", "ཧ\u0f74\u0f71"])
    assert first != second
