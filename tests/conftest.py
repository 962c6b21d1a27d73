"""Fixtures for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import pytest

if TYPE_CHECKING:
    from tibert_keras.finetuning.config import FinetuneTokensConfig
    from tibert_keras.records.pipeline import Records
    from tibert_keras.training.config import PretrainConfig


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and reference numbers beside the project; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the data beside the project: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def sample_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three small text files of made-up documents, ten in each, a section a line."""
    from tibert_keras.corpus.sample import sample_documents

    folder = tmp_path_factory.mktemp("corpus")
    documents = ["\n".join(document) for document in sample_documents(seed=1, num_documents=30)]
    for index in range(3):
        text = "\n\n".join(documents[index::3]) + "\n"
        (folder / f"train_{index}.txt").write_text(text, encoding="utf-8", newline="\n")
    return folder


@pytest.fixture(scope="session")
def spm_models(sample_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of two SentencePiece models of 400 pieces, `bpe` and `unigram`, trained on the sample corpus."""
    from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizers")
    for recipe, kind in (("olive", "bpe"), ("albert", "unigram")):
        train_tokenizer(
            TokenizerConfig(
                input_file=f"{sample_corpus}/*.txt", output_dir=str(folder / kind), recipe=recipe, vocab_size=400
            )
        )
    return {kind: str(folder / kind / "spiece.model") for kind in ("bpe", "unigram")}


@pytest.fixture(scope="session")
def sample_records(sample_corpus: Path, spm_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train/` and `held_out/`: records of the sample corpus, 32 tokens with 5 predictions each."""
    from tibert_keras.records.build import build_records
    from tibert_keras.records.config import RecordsConfig

    folder = tmp_path_factory.mktemp("records")
    for name, text in (("train", "train_[01].txt"), ("held_out", "train_2.txt")):
        build_records(
            RecordsConfig(
                workers=1,
                input_file=f"{sample_corpus}/{text}",
                output_dir=str(folder / name),
                spm_model_file=spm_models["bpe"],
                max_seq_length=32,
                max_predictions_per_seq=5,
            )
        )
    return folder


@pytest.fixture(scope="session")
def run_config(sample_records: Path) -> Callable[..., PretrainConfig]:
    """Makes the options of a short run on the sample records: 22 steps, more than an epoch, a checkpoint every 5."""
    from tibert_keras.training.config import PretrainConfig

    def make(output_dir: Path | str, **changes: Any) -> PretrainConfig:
        options = {
            "input_file": f"{sample_records}/train/*.tf_record",
            "output_dir": str(output_dir),
            "preset": "tibert_nano",
            "train_batch_size": 32,
            "max_seq_length": 32,
            "max_predictions_per_seq": 5,
            "learning_rate": 0.01,
            "num_train_steps": 22,
            "num_warmup_steps": 4,
            "save_checkpoints_steps": 5,
        }
        return PretrainConfig(**{**options, **changes})

    return make


@pytest.fixture(scope="session")
def finished_run(
    run_config: Callable[..., PretrainConfig], sample_records: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run of `run_config` that was never stopped, with a validation loss. Tests only read it."""
    from tibert_keras.training.pretrain import pretrain

    folder = tmp_path_factory.mktemp("runs") / "finished"
    pretrain(run_config(folder, validation_file=f"{sample_records}/held_out/*.tf_record"))
    return folder


@pytest.fixture(scope="session")
def small_preset(spm_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of an untrained masked language model of the smallest architecture. Tests only read it."""
    from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer

    folder = tmp_path_factory.mktemp("presets") / "small"
    tokenizer = TibertTokenizer(Path(spm_models["bpe"]).read_bytes())
    preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=32, mask_selection_length=5)
    # Not what a test before has left: a training with the same seed would begin with the same weights.
    keras.utils.set_random_seed(0)
    model = TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor)
    model.compile()
    model.save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def tagger_config(small_preset: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FinetuneTokensConfig]:
    """Makes the options of a short fine-tuning of a tagger on made-up words: 2 seeds, 8 epochs."""
    from tests.support.made_up_tags import write_horizontal
    from tibert_keras.finetuning.config import FinetuneTokensConfig

    folder = tmp_path_factory.mktemp("tagged")
    files = {
        # A sentence a document: so small a model learns little in so short a time, were they to begin anywhere.
        part: write_horizontal(folder / f"{part}.txt", seed=seed, num_documents=count, sentences=1)
        for seed, (part, count) in enumerate((("train", 240), ("validation", 24), ("test", 24)))
    }

    def make(output_dir: Path | str, **changes: Any) -> FinetuneTokensConfig:
        options = {
            "input_file": files["train"], "validation_file": files["validation"], "test_file": files["test"],
            "output_dir": str(output_dir), "model": small_preset, "min_tag_count": 1, "learning_rate": 0.01,
            "num_epochs": 8, "train_batch_size": 8, "max_seq_length": 32, "num_seeds": 2,
            "jit_compile": keras.backend.backend() == "jax",  # which takes minutes op by op
        }  # fmt: skip
        return FinetuneTokensConfig(**{**options, **changes})

    return make


@pytest.fixture(scope="session")
def tagger_run(tagger_config: Callable[..., FinetuneTokensConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fine-tuning of `tagger_config`. Tests only read it."""
    from tibert_keras.finetuning.tokens import finetune_tokens

    folder = tmp_path_factory.mktemp("taggers") / "tagger"
    finetune_tokens(tagger_config(folder))
    return folder


@pytest.fixture(scope="session")
def random_preset(spm_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked language model with random weights and a tokenizer. Tests only read it."""
    from tests.support.tiny_models import randomize, tiny
    from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer

    folder = tmp_path_factory.mktemp("preset") / "preset"
    preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer(spm_models["bpe"]), sequence_length=16)
    randomize(TibertMaskedLM(tiny(vocabulary_size=400), preprocessor=preprocessor)).save_to_preset(str(folder))
    return folder


@pytest.fixture(scope="session")
def converted(random_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model in each format, by name. Tests only read them."""
    from tibert_keras.formats.convert import ConvertConfig, convert

    folder = tmp_path_factory.mktemp("converted")
    for to in ("google", "huggingface"):
        convert(ConvertConfig(from_="keras", input=str(random_preset), to=to, output=str(folder / to)))
    return {"keras": random_preset, "google": folder / "google", "huggingface": folder / "huggingface"}


@pytest.fixture
def own_records(sample_records: Path, tmp_path: Path) -> Records:
    """Records that a test may damage."""
    from tibert_keras.records.pipeline import Records

    shutil.copytree(sample_records / "held_out", tmp_path / "records")
    return Records.find(f"{tmp_path}/records/*.tf_record")


@pytest.fixture(scope="session")
def sop_records(sample_corpus: Path, spm_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pattern of the files of `sample_records/train`, with pairs of segments, half of them swapped."""
    from tibert_keras.records.build import build_records
    from tibert_keras.records.config import RecordsConfig

    folder = tmp_path_factory.mktemp("sop_records")
    config = RecordsConfig(
        workers=1, input_file=f"{sample_corpus}/train_[01].txt", output_dir=str(folder),
        spm_model_file=spm_models["bpe"], max_seq_length=32, max_predictions_per_seq=5, sop=True,
    )  # fmt: skip
    build_records(config)
    return f"{folder}/*.tf_record"
