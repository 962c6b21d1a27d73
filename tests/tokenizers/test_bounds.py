"""What is refused before SentencePiece sees it: texts that would take it minutes."""

import math
from types import SimpleNamespace

import pytest

from tibert_keras.errors import InputError
from tibert_keras.inference.classify import classify_each
from tibert_keras.inference.fill import fill_mask
from tibert_keras.inference.segment import sentences
from tibert_keras.tagging.windows import tag_lines
from tibert_keras.tokenizers.bounds import MAX_RUN, MAX_TEXT_BYTES, check_text


def test_accepted():
    run = "a" * MAX_RUN
    for text in ("", "ཀ་" * 600_000, "ཀ" * 10**6, run, f"{run}་{run}།{run}ལོ{'你' * MAX_RUN}", "་" * 100_000):
        check_text(text)


@pytest.mark.parametrize(
    ("sign", "count"),
    [("a", 10**6), ("你", 10**5), ("\u0fd5", 50_000), ("a ", 10_000), ("a\n", 10_000)],
)
def test_a_run_that_is_too_long(sign, count):
    run = sign * count
    for text in (run, f"ཀ་{run}", f"{run}།"):
        with pytest.raises(
            InputError, match=f"more than {MAX_RUN} characters in a row without a common Tibetan letter"
        ):
            check_text(text, max_bytes=math.inf)


def test_a_text_that_is_not_unicode():
    """As from an argument or a JSON escape that is half a character."""
    with pytest.raises(InputError, match=r"not Unicode. Received: '\\udcff' at character 2. Give UTF-8"):
        check_text("ཀ་\udcff", max_bytes=math.inf)


def test_a_text_that_is_too_long():
    text = "ཀ་" * (MAX_TEXT_BYTES // 6 + 1)
    with pytest.raises(InputError, match=f"A text has more than {MAX_TEXT_BYTES} bytes. Received: {len(text) * 3}"):
        check_text(text)
    check_text(text, max_bytes=math.inf)


@pytest.mark.parametrize(
    "use",
    [
        lambda text: fill_mask([text], model="NO_SUCH_MODEL"),
        lambda text: list(tag_lines(SimpleNamespace(preprocessor=SimpleNamespace(sequence_length=32)), [text])),
        lambda text: list(sentences(SimpleNamespace(labels=["section", "sentence"]), [text])),
        lambda text: list(classify_each(SimpleNamespace(preprocessor=SimpleNamespace(num_segments=1)), [text])),
    ],
    ids=["fill-mask", "tag", "segment", "classify"],
)
def test_who_refuses_them(use):
    """At once, before the model is asked."""
    with pytest.raises(InputError, match="without a common Tibetan letter. Received: 1000000"):
        use("a" * 1_000_000)
