"""Fine-tuning of a classifier of texts."""

import json

import numpy as np
import pytest

from tests.support.made_up_tags import write_texts
from tests.support.made_up_tpu import make_up_tpu
from tests.support.strings_on_replicas import finetuning
from tibert_keras import TibertTextClassifier
from tibert_keras.errors import InputError
from tibert_keras.finetuning.config import FinetuneTextConfig
from tibert_keras.finetuning.text import LabelledText, finetune_text, read_labelled
from tibert_keras.runs.history import History


@pytest.fixture
def config(small_preset, tmp_path):
    def make(**changes) -> FinetuneTextConfig:
        options = {
            "input_file": write_texts(tmp_path / "texts.tsv", seed=0, count=240),
            "output_dir": str(tmp_path / "run"), "model": small_preset, "learning_rate": 0.003, "num_epochs": 5,
            "train_batch_size": 16, "max_seq_length": 32,
        }  # fmt: skip
        return FinetuneTextConfig(**{**options, **changes})

    return make


@pytest.mark.any_backend
class TestRun:
    def test_it_learns(self, config, tmp_path):
        scores = finetune_text(config(test_file=write_texts(tmp_path / "test.tsv", seed=1, count=60)))
        assert scores.part == "test" and scores.data["texts"] == {"train": 216, "validation": 24, "test": 60}
        assert scores.baseline["accuracy"] < 0.7 and scores.mean()["macro_f1"] > 0.95
        model = TibertTextClassifier.from_preset(str(tmp_path / "run/champion"))
        texts = read_labelled(str(tmp_path / "test.tsv"))
        found = model.predict([text.segments[0] for text in texts], verbose=0).argmax(axis=-1)
        right = np.mean([model.labels[index] == text.label for index, text in zip(found, texts, strict=True)])
        assert right == pytest.approx(scores.seeds[0]["test"]["accuracy"])
        assert (tmp_path / "run/confusion.png").is_file()

    def test_two_texts_side_by_side(self, config, tmp_path):
        lines = [f"{label}\t{text}\tཀ།" for label, (text,) in read_labelled(config().input_file)]
        (tmp_path / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
        scores = finetune_text(
            config(input_file=str(tmp_path / "pairs.tsv"), class_weight={"cut": 2.0}, num_epochs=1, num_seeds=2)
        )
        assert len(scores.seeds) == 2 and scores.part == "validation"
        # So that it is not exported as a model of one text.
        assert TibertTextClassifier.from_preset(str(tmp_path / "run/champion")).preprocessor.num_segments == 2
        content = json.loads((tmp_path / "run/scores.json").read_text(encoding="utf-8"))
        assert content["mean"].keys() == {"texts", "accuracy", "macro_f1", "weighted_f1"}

    @pytest.mark.slow
    def test_on_two_devices(self, two_devices, small_preset, tmp_path):
        """The losses and scores of one device; there in parts too."""
        finetune_text(finetuning(small_preset, tmp_path))
        rows, expected = (History(folder / "run/seed_0").rows for folder in (two_devices, tmp_path))
        for row, expected_row in zip(rows, expected, strict=True):
            del row["seconds"], expected_row["seconds"]
            assert row == pytest.approx(expected_row, rel=1e-3)

    def test_on_a_tpu(self, config, tmp_path, monkeypatch):
        """A made-up one, with a core that is the CPU: the same losses and scores, from batches of a known size."""
        import tensorflow as tf

        finetune_text(config(num_epochs=1))
        static: list[bool] = []

        class Core(tf.distribute.OneDeviceStrategy):
            def __init__(self, resolver):
                super().__init__("/cpu:0")

            def experimental_distribute_dataset(self, dataset, options=None):
                shapes = [spec.shape for spec in tf.nest.flatten(dataset.element_spec)]
                static.append(all(shape.is_fully_defined() for shape in shapes))
                return super().experimental_distribute_dataset(dataset, options)

        calls = make_up_tpu(monkeypatch, Core)
        flags = {"use_tpu": True, "tpu_name": "t", "tpu_zone": "z", "gcp_project": "p", "num_tpu_cores": 1}
        finetune_text(config(num_epochs=1, output_dir=str(tmp_path / "tpu"), **flags))
        assert calls == [{"tpu": "t", "zone": "z", "project": "p"}] and static[0]
        (row,), (expected,) = (History(tmp_path / name / "seed_0").rows for name in ("tpu", "run"))
        del row["seconds"], expected["seconds"]
        assert row == pytest.approx(expected, rel=1e-3)

    def test_fewer_texts_than_parts(self, config, tmp_path):
        with pytest.raises(InputError, match="Received: 9 sequences for 1 replicas .*gradient_accumulation_steps=16"):
            finetune_text(
                config(input_file=write_texts(tmp_path / "few.tsv", seed=0, count=10), gradient_accumulation_steps=16)
            )
        assert not (tmp_path / "run").exists()

    def test_a_loss_that_is_not_finite(self, config):
        with pytest.raises(InputError, match=r"The loss is not finite in epoch 1\. Received: nan\."):
            finetune_text(config(learning_rate=1e30, num_epochs=2))


class TestBadInput:
    @pytest.mark.parametrize(
        "content, message",
        [
            ("whole\tཀ།\nཀ།\n", "line 2"),
            ("whole\tཀ།\n\tཀ།\n", "line 2"),
            ("whole\tཀ།\nwhole\tཀ།\tཁ།\n", "All lines have a second text or none has"),
            ("whole\ta\tb\tc\n", "with 4 columns"),
            ("whole\ta\n", "no Tibetan"),
            ("whole\tཀ།\nwhole\tཁ།\n", "two labels or more"),
            ("whole\tཀ།\n", "no text left for training"),
        ],
    )
    def test_texts(self, config, tmp_path, content, message):
        (tmp_path / "bad.tsv").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            finetune_text(config(input_file=str(tmp_path / "bad.tsv")))
        assert not (tmp_path / "run").exists()

    def test_an_unknown_label(self, config, tmp_path):
        (tmp_path / "other.tsv").write_text("whole\tཀ།\nhalf\tཀ།\n", encoding="utf-8")
        with pytest.raises(InputError, match="A label of the test never occurs in training. Received: 'half'"):
            finetune_text(config(test_file=str(tmp_path / "other.tsv")))

    def test_several_hosts(self, config, monkeypatch):
        cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
        with pytest.raises(InputError, match="A fine-tuning runs on one host. Received: TF_CONFIG=.* Unset"):
            finetune_text(config())

    @pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
    def test_options(self, config, share):
        with pytest.raises(InputError, match="validation_share"):
            config(validation_share=share)

    def test_empty_lines_are_left_out(self, tmp_path):
        (tmp_path / "texts.tsv").write_text("a\tཀ།\n\nb\tཁ།\n", encoding="utf-8")
        assert read_labelled(str(tmp_path / "texts.tsv")) == [LabelledText("a", ("ཀ།",)), LabelledText("b", ("ཁ།",))]
