"""Every verb that fills a folder keeps others out of it meanwhile."""

from pathlib import Path

import pytest

from tibert_keras.cli.main import main
from tibert_keras.locks import only_writer

VERBS = {
    "corpus": ["--input_file={all}/text.txt", "--edition=plain", "--workers=1"],
    "tokenizer": ["--input_file={all}/corpus/*.txt", "--vocab_size=120"],
    "records": ["--input_file={all}/corpus/*.txt", "--spm_model_file={all}/spm/spiece.model", "--workers=1"],
    "export": ["--model={all}/preset"],
    "export --versioned=true": ["--model={all}/preset"],
    "convert": ["--from=keras", "--input={all}/preset", "--to=google"],
    "pretrain": [
        "--input_file={all}/records/*.tf_record", "--albert_config_file={all}/albert_config.json",
        "--train_batch_size=4", "--max_seq_length=32", "--max_predictions_per_seq=5",
    ],
    "finetune text": [
        "--model={all}/preset", "--input_file={all}/train.tsv", "--validation_file={all}/validation.tsv",
        "--max_seq_length=32",
    ],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_the_second_is_refused(verb: str, artefacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*verb.split(), *(word.format(all=artefacts) for word in VERBS[verb])]
    out = "--output" if verb == "convert" else "--output_dir"
    with only_writer(tmp_path / "out"):
        assert main([*words, f"{out}={tmp_path}/out"]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tibert ")]
        assert "Another process writes there: process " in line and f"Received: '{tmp_path}/out'" in line
    assert list(tmp_path.iterdir()) == []
