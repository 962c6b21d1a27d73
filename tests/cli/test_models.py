"""The verbs for trained models: what they print, and the model that they use if none is given."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tibert_keras import fill_gaps, fill_mask
from tibert_keras.cli.flags import parse
from tibert_keras.cli.main import VERBS, main
from tibert_keras.cli.models import print_filled
from tibert_keras.inference.fill import FilledText
from tibert_keras.models.tibert_presets import MASKED_LM, TAGGER

TEXT = "བཅོམ་[GAP:1]་འདས།"
# What each verb needs beside a model, and the model that it takes without `--model`.
DEFAULTS = {
    "fill-mask": ([TEXT], MASKED_LM),
    "tag": (["བཀྲ་ཤིས།"], TAGGER),
    "evaluate": (["--input_file=a"], MASKED_LM),
    "export": (["--output_dir=out"], MASKED_LM),
    "finetune tokens": (["--input_file=a", "--validation_file=b", "--output_dir=out"], MASKED_LM),
    "finetune text": (["--input_file=a", "--output_dir=out"], MASKED_LM),
}
ABSENT = """
import json, pathlib, sys
from tibert_keras.cli.main import main
from tibert_keras.models import tibert_presets
tibert_presets.PRESETS = pathlib.Path("nowhere")
pathlib.Path("a.tf_record").touch()
print([main(words) for words in json.loads(sys.argv[1])])
print(sorted({"keras", "keras_hub", "tensorflow", "jax"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("verb", DEFAULTS)
def test_default_model(verb: str) -> None:
    words, name = DEFAULTS[verb]
    assert parse(VERBS[verb], words, name=verb).model == name


def test_they_answer_without_a_model(box: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fill-mask", TEXT]) == main(["fill-mask", f"--model={box(MASKED_LM)}", TEXT]) == 0
    by_name, by_folder = capsys.readouterr().out.splitlines()
    assert by_name == by_folder and by_name.startswith("1.1\t")
    assert main(["tag", "བཀྲ་ཤིས།"]) == 0 and "|" in capsys.readouterr().out
    assert main(["card", TAGGER]) == 0 and capsys.readouterr().out == f"{box(TAGGER)}/CARD.md\n"
    assert fill_gaps(TEXT, top_k=1) == fill_gaps(TEXT, model=MASKED_LM, top_k=1)
    assert fill_mask("བཅོམ་[MASK]་འདས།") == fill_mask("བཅོམ་[MASK]་འདས།", model=box(MASKED_LM))


@pytest.mark.parametrize(
    ("words", "name", "advice"),
    [
        (["tag", "ཀ"], MASKED_LM, f"a tagger is needed. .*Give {TAGGER}, or"),
        (["tag", "--input_file=."], MASKED_LM, f"a tagger is needed. .*Give {TAGGER}, or"),
        (["fill-mask", TEXT], TAGGER, f"a masked language model is needed. .*Give {MASKED_LM}, or"),
        (["evaluate", "--input_file=a"], TAGGER, f"a masked language model is needed. .*Give {MASKED_LM}, or"),
        (["classify", "ཀ"], TAGGER, "a text classifier is needed. .*Give one of `tibert finetune text`"),
        (["segment", "ཀ"], MASKED_LM, "a text classifier is needed. .*Give one of `tibert finetune text`"),
        (["tag", "ཀ"], "tibert_base", f"or the name of a model of the package: {MASKED_LM} or {TAGGER}"),
    ],
)
def test_the_wrong_one_of_them(
    box: Callable[[str], Path], capsys: pytest.CaptureFixture[str], words: list[str], name: str, advice: str
) -> None:
    assert main([*words, f"--model={name}"]) == 1
    complaint = capsys.readouterr().err
    assert re.search(rf"Received: (model=)?'{name}'", complaint) and re.search(advice, complaint)


def test_a_build_without_them_says_so(tmp_path: Path) -> None:
    """Before Keras is imported."""
    import json

    replaced = [word.replace("=a", "=a.tf_record") for word in DEFAULTS["evaluate"][0]]
    commands = [[*verb.split(), *words] for verb, (words, _) in DEFAULTS.items() if "finetune" not in verb]
    commands = [["evaluate", *replaced] if command[0] == "evaluate" else command for command in commands]
    commands += [["serve"], ["serve", f"m={TAGGER}"], ["card", TAGGER]]
    commands += [["convert", "--from=keras", f"--input={MASKED_LM}", "--to=google", "--output=out"]]
    commands += [
        ["pretrain", "--input_file=a.tf_record", "--output_dir=out", f"--preset={MASKED_LM}"],
        ["finetune", "text", "--input_file=a.tf_record", "--output_dir=out"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", ABSENT, json.dumps(commands)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str([1] * len(commands)), "[]"]
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands) and all("The model did not come with this build" in line for line in lines)


@pytest.mark.parametrize(
    ("show_wylie", "guesses"),
    [(False, "འདས་:0.500 ལྡན་འདས:0.250"), (True, "འདས་ ['das]:0.500 ལྡན་འདས [ldan 'das]:0.250")],
)
def test_guesses(capsys: pytest.CaptureFixture[str], show_wylie: bool, guesses: str) -> None:
    text = FilledText(3, "[GAP:1]\n[GAP:1-2]།", [[], [("འདས་", 0.5), ("ལྡན་འདས", 0.25)]], "[GAP:1]\nའདས་།")
    print_filled([text], show_wylie=show_wylie)
    filled = "[GAP:1]\\nའདས་།"
    assert capsys.readouterr().out == f"3.1\t(none)\t{filled}\n3.2\t{guesses}\t{filled}\n"
