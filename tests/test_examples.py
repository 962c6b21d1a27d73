"""The scripts to start from run, and do what they say."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.slow
def test_finetune_a_tagger(monkeypatch, capsys):
    run("finetune_a_tagger.py", monkeypatch)
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "ཀུན་དགའ་བོ་|PROPN ཡིས་|ADP དགེ་སློང་|NOUN ལ་|ADP མེ་ཏོག་|NOUN ཕུལ|VERB །|PUNCT"


@pytest.mark.slow
def test_head_of_your_own(monkeypatch, capsys):
    run("head_of_your_own.py", monkeypatch)
    *_, last = capsys.readouterr().out.splitlines()
    assert float(re.fullmatch(r"guessed the number of syllables within (\S+) on average", last)[1]) < 1.5


def test_over_a_pretrained_encoder(monkeypatch, small_preset, capsys):
    run("head_of_your_own.py", monkeypatch, small_preset)
    assert "guessed the number" in capsys.readouterr().out
