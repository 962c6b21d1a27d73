"""Fine-tuning of a tagger: the best epoch of each seed, resuming, what is trained, and bad input."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.interruptions import PowerCutError
from tibert_keras import (
    TibertBackbone,
    TibertMaskedLM,
    TibertTokenClassifier,
    TibertTokenClassifierPreprocessor,
    TibertTokenizer,
)
from tibert_keras.errors import InputError
from tibert_keras.finetuning.epochs import _ShuffledBatches
from tibert_keras.finetuning.scores import read_scores, score_table
from tibert_keras.finetuning.tokens import _Tagging, encode_documents, finetune_tokens, tag_documents
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.folder import read_config
from tibert_keras.runs.history import History
from tibert_keras.tagging.metrics import score_tagging
from tibert_keras.tagging.reading import read_tagged
from tibert_keras.tagging.words import Document, TaggedWord, known_words
from tibert_keras.training import precision


@pytest.fixture
def run(tagger_run, tmp_path):
    shutil.copytree(tagger_run, tmp_path / "tagger")
    return tmp_path / "tagger"


def joint_f1(model, path: str, known: set[str]) -> float:
    documents = read_tagged(path)
    return score_tagging(documents, list(tag_documents(model, documents)), known=known).values["joint_f1"]


class TestRun:
    def test_it_learns_and_beats_the_baseline(self, tagger_run):
        scores = read_scores(tagger_run)
        assert (scores.part, scores.criterion, len(scores.seeds)) == ("test", "joint_f1", 2)
        # བསྟན་ is a noun or a verb: the baseline cannot know, the tagger can.
        assert scores.baseline["joint_f1"] < 0.96 < scores.mean()["joint_f1"]
        assert {path.name for path in tagger_run.iterdir()} >= {
            "config.yaml", "environment.json", "scores.json", "champion", "confusion.png", "seed_0", "seed_1",
        }  # fmt: skip

    @pytest.mark.any_backend
    def test_the_best_epoch_is_kept(self, tagger_run, tagger_config):
        config, scores = tagger_config(tagger_run), read_scores(tagger_run)
        known = known_words(read_tagged(config.input_file))
        for index, seed in enumerate(scores.seeds):
            rows = History(tagger_run / f"seed_{index}").rows
            best = max(rows, key=lambda row: row["joint_f1"])
            assert (seed["epoch"], seed["epochs"]) == (best["epoch"], len(rows))
            assert seed["validation"]["joint_f1"] == pytest.approx(best["joint_f1"])
            model = TibertTokenClassifier.from_preset(str(tagger_run / f"seed_{index}/champion"))
            assert joint_f1(model, config.validation_file, known) == pytest.approx(seed["validation"]["joint_f1"])
            assert joint_f1(model, config.test_file, known) == pytest.approx(seed["test"]["joint_f1"])
        champion = TibertTokenClassifier.from_preset(str(tagger_run / "champion"))
        model = TibertTokenClassifier.from_preset(str(tagger_run / f"seed_{scores.best_seed()}/champion"))
        for ours, theirs in zip(champion.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_mean_and_deviation(self, tagger_run):
        content = json.loads((tagger_run / "scores.json").read_text(encoding="utf-8"))
        first, second = (seed["test"]["tag_macro_f1"] for seed in content["seeds"])
        assert content["mean"]["tag_macro_f1"] == pytest.approx((first + second) / 2)
        assert content["deviation"]["tag_macro_f1"] == pytest.approx(abs(first - second) / 2**0.5)

    def test_given_again_it_trains_what_is_missing(self, run, tagger_config, monkeypatch):
        """After a kill in the third epoch from that epoch on, and without any checkpoint from the first."""
        before = {path: path.read_bytes() for path in run.rglob("scores.json")}
        (run / "seed_1/scores.json").unlink()
        (run / "seed_1/history.csv").write_text("of a killed training", encoding="utf-8")
        measure, measured = _Tagging.measure, []

        def cut_in_the_third(*given):
            measured.append(given)
            if len(measured) == 3:
                raise PowerCutError
            return measure(*given)

        with monkeypatch.context() as patch, pytest.raises(PowerCutError):
            patch.setattr(_Tagging, "measure", cut_in_the_third)
            finetune_tokens(tagger_config(run))
        assert Checkpoints(run / "seed_1").steps
        finetune_tokens(tagger_config(run))
        assert [row["epoch"] for row in History(run / "seed_1").rows] == list(range(1, 9))
        assert not (run / "seed_1/checkpoints").exists() and len(list((run / "seed_1/logs").iterdir())) == 2
        for path, content in before.items():
            ours, theirs = json.loads(content), json.loads(path.read_bytes())
            for seeds in (ours, theirs):
                for seed in seeds.get("seeds", [seeds]):
                    seed["seconds"] = 0
            # The same to the last digit: a seed does not depend on those before it.
            assert ours == theirs
        names = [path.stat().st_mtime_ns for path in (run / "seed_0").rglob("*")]
        finetune_tokens(tagger_config(run))
        assert names == [path.stat().st_mtime_ns for path in (run / "seed_0").rglob("*")]

    @pytest.mark.any_backend
    def test_the_champion_is_that_of_the_best_scores(self, run, tagger_config, monkeypatch):
        """Its seed is trained again, to no avail, and the other one is now better."""
        best = read_scores(run).best_seed()
        other = run / f"seed_{1 - best}"
        result = json.loads((run / f"seed_{best}/scores.json").read_text(encoding="utf-8"))
        result["validation"]["joint_f1"] = 0.0
        monkeypatch.setattr("tibert_keras.finetuning.seeds.train", lambda *_, **__: result)
        (run / f"seed_{best}/scores.json").unlink()
        config = tagger_config(run)
        finetune_tokens(config)
        assert [seed["seed"] for seed in read_scores(run).seeds] == [config.seed, config.seed + 1]
        assert read_scores(run).best_seed() == 1 - best
        champion, expected = (TibertTokenClassifier.from_preset(str(each / "champion")) for each in (run, other))
        for ours, theirs in zip(champion.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    @pytest.mark.any_backend
    def test_tables_of_several_runs(self, tagger_run, tagger_config, small_preset, tmp_path):
        changes = {"pretrained": False, "num_seeds": 1, "num_epochs": 1}
        config = tagger_config(tmp_path / "fresh", compare_with=str(tagger_run), **changes)
        scores = finetune_tokens(config)
        # The embeddings are newly initialized, not those of the preset.
        ours, theirs = (
            np.array(TibertBackbone.from_preset(path).token_embedding.embeddings)
            for path in (f"{config.output_dir}/champion", small_preset)
        )
        assert np.abs(ours - theirs).mean() > 0.01
        text = score_table(config.output_dir, scores, config.others)
        header, *rows = (re.split(" {2,}", line.strip()) for line in text.splitlines())
        assert header == ["test", "of", "all", "seen", "not seen"]
        names = [row.pop(0) for row in rows[::3]]
        assert names[:6] == [
            f"{kind}_{name}" for kind in ("boundary", "word") for name in ("precision", "recall", "f1")
        ]
        assert {row[0] for row in rows[1::3]} == {"tagger (2 seeds)"}
        assert {row[0] for row in rows[2::3]} == {"fresh (not pretrained, 1 seed)"}
        index = names.index("word_recall")
        for row, given, deviation in (
            (rows[3 * index], scores.baseline, {}),
            (rows[3 * index + 1], read_scores(tagger_run).mean(), read_scores(tagger_run).deviation()),
        ):
            for cell, name in zip(row[1:], ("word_recall", "seen_word_recall", "unseen_word_recall"), strict=True):
                said = f" ± {deviation[name]:.4f}" if name in deviation else ""
                assert cell == (f"{given[name]:.4f}{said}" if math.isfinite(given.get(name, math.nan)) else "-")
        # Boundaries are not split into seen and unseen words.
        assert [row[2:] for row in rows[:9]] == [["-", "-"]] * 9

    @pytest.mark.any_backend
    def test_patience(self, tagger_config, tmp_path):
        # With almost no learning rate, no epoch is better than the first.
        config = tagger_config(tmp_path / "run", learning_rate=1e-12, patience=2, num_seeds=1)
        (seed,) = finetune_tokens(config).seeds
        assert (seed["epoch"], seed["epochs"]) == (1, 3)


@pytest.mark.any_backend
class TestWhatIsTrained:
    @pytest.mark.parametrize(
        "changes, changed",
        [
            ({"freeze_backbone": True, "optimizer": "lamb"}, set()),
            ({"lora_rank": 2, "optimizer": "adamw"}, {"query", "value"}),
        ],
    )
    def test_of_the_encoder(self, tagger_config, small_preset, tmp_path, changes, changed):
        config = tagger_config(tmp_path / "run", num_seeds=1, num_epochs=1, **changes)
        finetune_tokens(config)
        before, after = (
            {weight.path: np.array(weight) for weight in TibertBackbone.from_preset(path).weights}
            for path in (small_preset, f"{config.output_dir}/champion")
        )
        assert before.keys() == after.keys()
        # Further training trains all of it.
        assert TibertBackbone.from_preset(f"{config.output_dir}/champion").trainable
        different = {path for path in before if (before[path] != after[path]).any()}
        assert {path.split("/")[-2] for path in different} == changed

    def test_a_preset_that_was_saved_frozen(self, tagger_config, small_preset, tmp_path):
        frozen = TibertMaskedLM.from_preset(small_preset)
        frozen.backbone.trainable = False
        frozen.save_to_preset(str(tmp_path / "frozen"))
        assert not TibertBackbone.from_preset(str(tmp_path / "frozen")).trainable_variables
        ours, theirs = (
            _Tagging(tagger_config(tmp_path, model=path)).make_model("float32").trainable_weights
            for path in (str(tmp_path / "frozen"), small_preset)
        )
        assert [weight.path for weight in ours] == [weight.path for weight in theirs] and len(ours) > 20

    def test_in_bfloat16(self, tagger_config, tmp_path, monkeypatch):
        make_model, computed_in = _Tagging.make_model, []

        def noting_precision(task, dtype):
            model = make_model(task, dtype)
            computed_in.append(model.backbone.compute_dtype)
            return model

        monkeypatch.setattr(_Tagging, "make_model", noting_precision)
        # Chosen by a trial, as if bfloat16 were worth any time.
        monkeypatch.setattr(precision, "_WORTH", 0.0)
        monkeypatch.setattr(precision, "_SECONDS", 0.0)
        config = tagger_config(tmp_path / "run", num_seeds=1, mixed_precision="auto", jit_compile=False, num_epochs=5)
        (seed,) = finetune_tokens(config).seeds
        assert read_config(config.output_dir)["mixed_precision"] == "mixed_bfloat16"
        # A loaded champion computes in float32, with the same scores but for a word or two.
        model = TibertTokenClassifier.from_preset(f"{config.output_dir}/champion")
        assert (computed_in, model.backbone.compute_dtype) == (["bfloat16", "float32"], "float32")
        known = known_words(read_tagged(config.input_file))
        assert joint_f1(model, config.test_file, known) == pytest.approx(seed["test"]["joint_f1"], abs=0.03)
        assert seed["test"]["joint_f1"] > 0.8

    def test_class_weights(self, tagger_config, tmp_path):
        task = _Tagging(tagger_config(tmp_path / "run", class_weight={"NOUN": 0.5, "CONT": 2}))
        _, labels, weights = task.sequences
        for label, weight in (("NOUN", 0.5), ("CONT", 2.0), ("VERB", 1.0)):
            assert set(weights[(labels == task.labels.index(label)) & (weights > 0)]) == {weight}


@pytest.mark.any_backend
class TestSequences:
    def test_nothing_is_cut_off_or_twice(self, small_preset):
        words = tuple(TaggedWord(form, tag) for form, tag in [("སངས་རྒྱས་", "N"), ("ཀྱི་", "P"), ("ཆོས", "N"), ("།", "M")])
        document = Document("a", words * 30)
        preprocessor = TibertTokenClassifierPreprocessor(
            TibertTokenizer.from_preset(small_preset), ["N", "P", "M", "CONT"], sequence_length=16
        )
        different = []
        for dupe_count in (1, 3):
            x, y, weights = encode_documents(preprocessor, [document], dupe_count=dupe_count, dupe_offset=1)
            assert x["token_ids"].shape == y.shape == weights.shape
            # Five syllables in four words, in their order: each with its own tag, whichever sequence it is in.
            assert y[weights > 0].tolist() == [0, 3, 1, 0, 2] * 30 * dupe_count
            texts = preprocessor.tokenizer.detokenize(x["token_ids"])
            assert "".join(texts).replace(" ", "") == document.text * dupe_count
            different.append(len({tuple(row) for row in x["token_ids"]}))
        # Each pass is cut elsewhere.
        assert different[0] < different[1]

    def test_token_dropout(self, tagger_config, tmp_path):
        """Each epoch hides other tokens, none of them special, and a run that goes on the same ones."""
        task = _Tagging(tagger_config(tmp_path / "run", token_dropout=0.3))
        batches, resumed = (_ShuffledBatches(task, batch_size=len(task.sequences[1]), seed=1) for _ in range(2))
        tokenizer, hidden = task.preprocessor.tokenizer, []
        for _ in range(2):
            batches.shuffle()
            shown, original = batches[0][0]["token_ids"], task.sequences[0]["token_ids"][batches.order]
            is_hidden = shown != original
            assert set(shown[is_hidden]) == {tokenizer.mask_token_id}
            special = np.isin(original, [tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id])
            assert not is_hidden[special].any() and is_hidden[~special].mean() == pytest.approx(0.3, abs=0.03)
            hidden.append(is_hidden[np.argsort(batches.order)])
            resumed.shuffle()
        assert (hidden[0] != hidden[1]).any()
        np.testing.assert_array_equal(resumed[0][0]["token_ids"], batches[0][0]["token_ids"])


@pytest.mark.any_backend
def test_unknown_tags_are_reported(run_without_training, tmp_path, caplog):
    """Tags that become UNK: one that never occurs in training may be a mistake."""
    config = run_without_training()
    for path, line in ((config.input_file, "ལ་|RARE"), (config.test_file, "ལ་|RARE ཀ་|NOUM ཁ་|NOUM")):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    # Refused before a training, as the test has changed.
    changes = {"output_dir": str(tmp_path / "run"), "compare_with": config.output_dir, "min_tag_count": 2}
    with caplog.at_level("INFO", logger="tibert_keras"), pytest.raises(InputError, match="measured_on"):
        finetune_tokens(dataclasses.replace(config, **changes))
    assert "test: 3 words are UNK, for their tags are too rare" in caplog.messages
    assert "test: among them are words with tags that no word in training has: 'NOUM' (2)" in caplog.messages
