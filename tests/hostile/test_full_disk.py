"""A disk that is full: one line with the name of the output, the old output as it was, and nothing beside it."""

import io
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import pytest

from tibert_keras.cli.main import main


@contextmanager
def no_file_larger(size: int) -> Iterator[None]:
    """Let writes fail as on a full disk: libraries in C see the same error, late and wherever they write."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [2_000, 16_000])
@pytest.mark.parametrize(
    "words",
    [
        ["tokenizer", "--input_file={all}/corpus/*.txt", "--vocab_size=120", "--output_dir={out}"],
        ["convert", "--from=keras", "--input={all}/preset", "--to=google", "--output={out}"],
        ["convert", "--from=keras", "--input={all}/preset", "--to=huggingface", "--output={out}"],
        ["convert", "--from=google", "--input={all}/google", "--to=keras", "--output={out}"],
        ["export", "--model={all}/preset", "--output_dir={out}"],
        ["corpus", "--edition=plain", "--workers=1", "--input_file={all}/text.txt", "--output_dir={out}"],
        [
            "records", "--workers=1", "--input_file={all}/corpus/*.txt", "--spm_model_file={all}/spm/spiece.model",
            "--output_dir={out}",
        ],
        [
            "pretrain", "--input_file={all}/records/*.tf_record", "--albert_config_file={all}/albert_config.json",
            "--num_train_steps=2", "--num_warmup_steps=0", "--train_batch_size=4", "--max_seq_length=32",
            "--max_predictions_per_seq=5", "--output_dir={out}",
        ],
        ["tag", "--model={all}/tagger/champion", "--input_file={all}/text.txt", "--output_file={out}"],
    ],
    ids=["tokenizer", "google", "huggingface", "keras", "export", "corpus", "records", "pretrain", "tag"],
)  # fmt: skip
def test_one_line(words: list[str], size: int, artefacts: Path, tmp_path: Path) -> None:
    if words[0] == "tokenizer" and size > 5_000:
        pytest.skip("its files are smaller")
    errors = io.StringIO()
    with no_file_larger(size), redirect_stderr(errors):
        status = main([word.format(all=artefacts, out=tmp_path / "out") for word in words])
    (line,) = [line for line in errors.getvalue().splitlines() if line.startswith("tibert ")]
    assert status == 1 and f"Received: '{tmp_path}/out" in line, line
    assert os.listdir(tmp_path) == []
