"""Which options, files, models and folders of a fine-tuning are refused, and how: before any training."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.made_up_tags import write_horizontal
from tibert_keras.errors import InputError
from tibert_keras.finetuning.config import FinetuneTokensConfig
from tibert_keras.finetuning.scores import read_scores
from tibert_keras.finetuning.task import load_encoder
from tibert_keras.finetuning.tokens import finetune_tokens
from tibert_keras.runs.folder import write_config

pytestmark = pytest.mark.any_backend


def test_a_run_keeps_to_the_spaces_that_it_was_begun_with(tagger_config, tmp_path):
    assert tagger_config(tmp_path / "new").as_begun().shad_spaces is True
    begun = tagger_config(tmp_path / "begun", shad_spaces=False)
    write_config(begun)
    assert tagger_config(tmp_path / "begun").as_begun() == begun
    with pytest.raises(InputError, match="shad_spaces=False there, True now"):
        finetune_tokens(tagger_config(tmp_path / "begun", shad_spaces=True))
    # Of a version that had no such option.
    path = tmp_path / "begun/config.yaml"
    path.write_text(path.read_text().replace("shad_spaces: false\n", ""))
    for given in (None, False):
        assert not tagger_config(tmp_path / "begun", shad_spaces=given).as_begun().shad_spaces


@pytest.mark.parametrize("length, said", [(32, False), (33, True)])
def test_positions_that_learnt_nothing(tagger_config, tmp_path, caplog, length, said):
    load_encoder(tagger_config(tmp_path / "run", max_seq_length=length))
    message = f"the encoder was trained on 32 positions, and has learnt nothing of later ones: max_seq_length={length}"
    assert (message in caplog.messages) == said


class TestBadInput:
    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"split_file": "split.tsv"}, "Give one of the two"),
            ({"validation_file": None}, "split_file=None, validation_file=None"),
            ({"validation_file": None, "split_file": "split.tsv"}, "split_file='split.tsv', test_file="),
            ({"freeze_backbone": True, "lora_rank": 4}, "lora_rank=4"),
            ({"gradient_accumulation_steps": 3}, "train_batch_size=8, gradient_accumulation_steps=3"),
            ({"learning_rate": float("nan")}, "learning_rate=nan"),
            ({"num_epochs": 0}, "num_epochs=0"),
            ({"warmup_share": 1.0}, "warmup_share=1.0"),
            ({"token_dropout": 1.0}, "token_dropout=1.0"),
            ({"dupe_count": 0}, "dupe_count=0"),
            ({"mixed_precision": "float16"}, "mixed_precision='float16'"),
            ({"jit_compile": "perhaps"}, "jit_compile='perhaps'"),
        ],
    )
    def test_options(self, tagger_config, tmp_path, changes, message):
        with pytest.raises(InputError, match=f"Received: .*{message}|{message}"):
            tagger_config(tmp_path / "run", **changes)

    def refuse(self, config: FinetuneTokensConfig, message: str) -> None:
        with pytest.raises(InputError, match=message) as error:
            finetune_tokens(config)
        assert "Received: " in str(error.value) and "\n" not in str(error.value)
        assert not Path(config.output_dir).exists()

    def test_files(self, tagger_config, tmp_path, small_preset):
        bad = tmp_path / "bad.txt"
        bad.write_text("ཀ་|NOUN ཁ་\n", encoding="utf-8")
        out = tmp_path / "run"
        self.refuse(tagger_config(out, input_file=f"{tmp_path}/none"), "No file matches")
        self.refuse(tagger_config(out, input_file=str(bad)), "A tag is missing|A word is missing")
        bad.write_text("a|NOUN b|VERB\n", encoding="utf-8")
        self.refuse(tagger_config(out, input_file=str(bad)), "no Tibetan")
        bad.write_text("ཀ་|QUITE ཁ་|OTHER\n", encoding="utf-8")
        self.refuse(tagger_config(out, test_file=str(bad)), "None of the tags is known")
        split = tmp_path / "split.tsv"
        split.write_text("bad:1\ttrain\nbad:2\tvalidation\n", encoding="utf-8")
        config = tagger_config(out, input_file=str(bad), split_file=str(split), validation_file=None, test_file=None)
        self.refuse(config, "bad:2")

    def test_a_file_in_two_parts(self, tagger_config, tmp_path):
        """The pattern of the training files matches the others too."""
        config = tagger_config(tmp_path / "run")
        pattern = str(Path(config.input_file).with_name("*.txt"))
        message = "in two parts of the data.* Received: .*validation.txt' in input_file and in validation_file"
        self.refuse(dataclasses.replace(config, input_file=pattern), message)

    def test_models(self, tagger_config, tmp_path):
        self.refuse(tagger_config(tmp_path / "run", model=str(tmp_path)), "Neither a preset nor a run")
        self.refuse(tagger_config(tmp_path / "run", max_seq_length=1000), "max_seq_length=1000")
        self.refuse(tagger_config(tmp_path / "run", class_weight={"NOUM": 2.0}), "no such label. Received: 'NOUM'")

    @pytest.mark.parametrize("content", [{"config": 7}, {"config": {"max_sequence_length": "many"}}])
    def test_positions_of_another_type(self, tagger_config, tmp_path, content):
        for name, written in (("task.json", {}), ("config.json", content)):
            (tmp_path / name).write_text(json.dumps(written))
        self.refuse(tagger_config(tmp_path / "run", model=str(tmp_path)), "does not tell its positions")

    @pytest.mark.parametrize("broken", ["another", "none"])
    def test_presets_of_others(self, tagger_config, small_preset, tmp_path, broken):
        """A preset with another class of tokenizer, and one without a tokenizer."""
        folder = tmp_path / "preset"
        shutil.copytree(small_preset, folder)
        if broken == "none":
            (folder / "tokenizer.json").unlink()
        else:
            tokenizer = json.loads((folder / "tokenizer.json").read_text())
            tokenizer |= {"module": "keras_hub.src.models.bert.bert_tokenizer", "class_name": "BertTokenizer"}
            tokenizer |= {"registered_name": "keras_hub>BertTokenizer", "config": {"name": "bert_tokenizer"}}
            (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        config = tagger_config(tmp_path / "run", model=str(folder))
        self.refuse(config, "preset cannot be loaded: .* Received: ")

    def test_folders(self, tagger_run, tagger_config, tmp_path):
        with pytest.raises(InputError, match="num_epochs=8 there, 7 now"):
            finetune_tokens(tagger_config(tagger_run, num_epochs=7))
        (tmp_path / "letter.txt").write_text("Dear A")
        with pytest.raises(InputError, match="not empty and holds no run"):
            finetune_tokens(tagger_config(tmp_path))
        self.refuse(tagger_config(tmp_path / "run", compare_with=str(tmp_path)), "Cannot read the file")

    @pytest.mark.parametrize("changed", ["test_file", "input_file"])
    def test_a_run_on_other_data(self, run_without_training, tagger_config, tmp_path, changed):
        """Refused before a training; other training data count too, since they change which words are seen."""
        first = run_without_training()
        path = tmp_path / "other.txt"
        text = Path(getattr(first, changed)).read_text(encoding="utf-8")
        path.write_text(f"{text}ཁྱི་|NOUN ལ་|ADP\n", encoding="utf-8")
        config = tagger_config(tmp_path / "run", compare_with=first.output_dir, **{changed: str(path)})
        self.refuse(config, "measured_on=.* there, .* now")

    def test_data_that_changed(self, run_without_training):
        """Existing seeds are not mixed with seeds of other data."""
        config = run_without_training()
        before = Path(config.output_dir, "scores.json").read_bytes()
        with Path(config.input_file).open("a", encoding="utf-8") as file:
            file.write("ལ་|ADP\n")
        with pytest.raises(InputError, match=r"holds results of other options. Received: .*train.txt=.* there, .* now"):
            finetune_tokens(config)
        assert Path(config.output_dir, "scores.json").read_bytes() == before

    def test_data_that_change_while_they_are_read(self, tagger_config, tmp_path, monkeypatch):
        """What is recorded is the hash of what was read."""
        config = tagger_config(
            tmp_path / "run", input_file=write_horizontal(tmp_path / "train.txt", seed=0, num_documents=9)
        )
        reading = sys.modules["tibert_keras.finetuning.tokens"]

        def read_then_change(given, read=reading._read):
            data = read(given)
            with Path(given.input_file).open("a", encoding="utf-8") as file:
                file.write("ལ་|ADP\n")
            return data

        monkeypatch.setattr(reading, "_read", read_then_change)
        self.refuse(config, "The file changed while it was read. Received: '.*train.txt'")

    def test_fewer_seeds(self, run_without_training):
        config = run_without_training(seeds=(0.5, 0.6))
        with pytest.raises(InputError, match="the scores of more seeds. Received: num_seeds=1"):
            finetune_tokens(dataclasses.replace(config, num_seeds=1))

    def test_damaged_scores(self, tmp_path):
        for content in ("{}", "[]", '{"part": "test"}'):
            (tmp_path / "scores.json").write_text(content)
            with pytest.raises(InputError, match=r"Not the scores of a fine-tuning: .* Received: '.*scores.json'"):
                read_scores(tmp_path)
