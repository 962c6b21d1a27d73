"""What is said of text that is not Tibetan."""

import pytest

from tibert_keras.corpus.foreign import ForeignCounter, noting_foreign


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("བཀྲ་ཤིས་བདེ་ལེགས། " * 10, ""),
        ("བཀྲ་ཤིས་[GAP:1-2]་[MASK]་[GAP]། [?]ས།", ""),
        ("བཀྲ་ཤིས་བདེ་ལེགས། " * 10 + "ab", ""),
        ("བཀྲ་ཤི<p>", "33% of the characters are not Tibetan: `<`, `p`, `>`."),
        ("ཀཁ" + "aabbbcdefghi", "86% of the characters are not Tibetan: `b`, `a`, `c`, `d`, `e`, `f`, `g`, `h`, ...."),
    ],
)
def test_note(text: str, note: str) -> None:
    counter = ForeignCounter()
    counter.add(text)
    assert counter.note() == note


def test_lines_are_warned_of_at_their_end(caplog: pytest.LogCaptureFixture) -> None:
    lines = noting_foreign([("<p>ཀ་ཁ", "\n"), ("ཀ", "")], "a.txt")
    assert next(lines) == ("<p>ཀ་ཁ", "\n") and not caplog.messages
    assert list(lines) == [("ཀ", "")]
    assert caplog.messages[0].startswith(
        "a.txt: 43% of the characters are not Tibetan: `<`, `p`, `>`. If this is markup"
    )
