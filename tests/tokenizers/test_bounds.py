"""What is refused before SentencePiece sees it: texts that would take it minutes."""

from __future__ import annotations

import math

import pytest

from tibert_keras.errors import InputError
from tibert_keras.tokenizers.bounds import MAX_RUN, MAX_TEXT_BYTES, check_text


@pytest.mark.parametrize(
    "text", ["", "ཀ་" * 150_000, "a" * MAX_RUN, f"{'a' * MAX_RUN}་{'b' * MAX_RUN}།{'你' * MAX_RUN}", "་" * 100_000]
)
def test_accepted(text):
    check_text(text)


@pytest.mark.parametrize(
    "run", ["a" * 1_000_000, "你" * 100_000, "\u0fd5" * 50_000, "a " * 10_000, "a\n" * 10_000, "\ud800" * 20_000]
)
def test_a_run_that_is_too_long(run):
    for text in (run, f"ཀ་{run}", f"{run}།"):
        with pytest.raises(InputError, match=f"more than {MAX_RUN} characters without a tsheg or shad. Received: "):
            check_text(text, max_bytes=math.inf)


def test_a_text_that_is_too_long():
    text = "ཀ་" * (MAX_TEXT_BYTES // 6 + 1)
    with pytest.raises(InputError, match=f"A text has more than {MAX_TEXT_BYTES} bytes. Received: {len(text) * 3}"):
        check_text(text)
    check_text(text, max_bytes=math.inf)
