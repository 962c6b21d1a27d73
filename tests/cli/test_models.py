"""What the verbs for trained models print."""

from __future__ import annotations

import pytest

from tibert_keras.cli.models import print_filled
from tibert_keras.inference.fill import FilledText


@pytest.mark.parametrize(
    ("show_wylie", "guesses"),
    [(False, "འདས་:0.500 ལྡན་འདས:0.250"), (True, "འདས་ ['das]:0.500 ལྡན་འདས [ldan 'das]:0.250")],
)
def test_guesses(capsys: pytest.CaptureFixture[str], show_wylie: bool, guesses: str) -> None:
    text = FilledText(3, "བཅོམ་[GAP:1-2]།", [[("འདས་", 0.5), ("ལྡན་འདས", 0.25)]], "བཅོམ་འདས་།")
    print_filled([text], show_wylie=show_wylie)
    assert capsys.readouterr().out == f"3.1\t{guesses}\tབཅོམ་འདས་།\n"
