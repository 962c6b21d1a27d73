"""The command lines of the original's scripts, flag by flag."""

import shlex
import shutil
from pathlib import Path

import pytest

from tests.support.original_command import ORIGINAL_RECORDS
from tibert_keras.cli.flags import parse
from tibert_keras.cli.main import VERBS, main
from tibert_keras.errors import InputError
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig, check_vocab_file
from tibert_keras.records.manifest import Manifest


def words(folder: Path, spm_model: str, name: str) -> list[str]:
    """The words of the original's command for a text in a folder."""
    command = ORIGINAL_RECORDS.replace("BASEDIR", str(folder)).replace("MODEL", spm_model.removesuffix(".model"))
    return shlex.split(command.replace("NAME", name))


@pytest.fixture
def folder(sample_corpus, tmp_path):
    for name in ("train_0", "train_1"):
        shutil.copyfile(sample_corpus / f"{name}.txt", tmp_path / f"{name}.txt")
    return tmp_path


def test_each_file_by_a_command_of_its_own(folder, spm_models):
    """As the script does, into the folder of the texts; other flags of the command decide the same as ours."""
    for name in ("train_0", "train_1"):
        assert main(["records", *words(folder, spm_models["bpe"], name), "--workers=1"]) == 0
    manifest = Manifest.read(str(folder))
    assert sorted(manifest.files) == [f"train_{number}-maxseq-128-12345.tf_record" for number in (0, 1)]
    ours = RecordsConfig(
        input_file=f"{folder}/train_1.txt",
        output_dir=f"{folder}/ours",
        spm_model_file=spm_models["bpe"],
        short_seq_prob=0.05,
        offset_steps=10,
        offset_stride=3,
        shuffle_examples=True,
        workers=1,
    )
    assert manifest.options == ours.options
    assert not manifest.options.keys() & {"output_file", "vocab_file", "do_lower_case", "keep_accents"}


def test_the_flags_mean_what_they_say():
    config = parse(VERBS["records"], shlex.split(ORIGINAL_RECORDS), name="tibert records")
    assert config.output_dir == "BASEDIR" and config.output_files == ["BASEDIR/NAME-maxseq-128-12345.tf_record"]
    assert (config.short_seq_prob, config.offset_steps, config.offset_stride) == (0.05, 10, 3)
    assert (config.ngram, config.favor_shorter_ngram, config.shuffle_examples, config.sop) == (3, False, True, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_lower_case": True}, "deletes the vowel signs .* Received: do_lower_case=True"),
        ({"keep_accents": False}, "Received: do_lower_case=False, keep_accents=False"),
        ({"random_next_sentence": True}, "Received: random_next_sentence=True"),
        ({"input_file_mode": "w"}, "Received: input_file_mode='w'"),
        ({"output_dir": ""}, "no folder for the records. Received: output_dir=''"),
        ({"output_dir": "", "output_file": "a/x,b/y"}, "The manifest of a folder.* Received: output_file='a/x,b/y'"),
        ({"output_dir": "", "output_file": "a/x, a/x"}, "whose names must differ"),
    ],
)
def test_refused(options, message):
    with pytest.raises(InputError, match=message) as caught:
        RecordsConfig(**{"input_file": "a", "output_dir": "b", "spm_model_file": "c", **options})
    assert "\n" not in str(caught.value)


def test_not_as_many_output_files(folder, spm_models):
    with pytest.raises(InputError, match="Received: 2 text files, output_file='.*one.tf_record'. Give as many"):
        build_records(
            RecordsConfig(
                input_file=f"{folder}/*.txt", output_file=f"{folder}/one.tf_record", spm_model_file=spm_models["bpe"]
            )
        )


def test_the_list_of_another_tokenizer(spm_models):
    vocab_files = {kind: path.removesuffix(".model") + ".vocab" for kind, path in spm_models.items()}
    check_vocab_file(vocab_files["bpe"], spm_models["bpe"])
    with pytest.raises(InputError, match=r"Received: '.*' in line \d+ of '.*unigram/spiece.vocab', '.*' in '.*/bpe/"):
        check_vocab_file(vocab_files["unigram"], spm_models["bpe"])
