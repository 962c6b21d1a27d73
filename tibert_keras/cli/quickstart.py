"""`tibert quickstart`: runs every stage on a small made-up corpus."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tibert_keras.cli.models import print_filled
from tibert_keras.corpus.build import CorpusConfig, build_corpus
from tibert_keras.corpus.sample import sample_documents, write_sample
from tibert_keras.errors import InputError
from tibert_keras.records.config import RecordsConfig
from tibert_keras.tibetan import SHAD, TSHEG
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer
from tibert_keras.training.config import PretrainConfig

if TYPE_CHECKING:
    from tibert_keras.inference.fill import FilledText
    from tibert_keras.runs.champion import Champion

_LOG = logging.getLogger(__name__)

# A model that has learned the sample's grammar fills about three quarters of its gaps.
_REQUIRED_ACCURACY = 0.6
_MAX_SEQ_LENGTH = 64
_MAX_PREDICTIONS_PER_SEQ = 10


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """Runs every stage on a small made-up corpus.

    Args:
        output_dir: Folder for the corpus, tokenizer, records, run and SavedModel.
        num_train_steps: Number of training steps. With far fewer the model learns too little, which is an error.
    """

    output_dir: str = "tibert_quickstart"
    num_train_steps: int = 6000


def quickstart(config: QuickstartConfig) -> None:
    """Run every stage on a small made-up corpus, in a few minutes."""
    print_filled(run_quickstart(config))


def run_quickstart(config: QuickstartConfig) -> list[FilledText]:
    """Make a corpus, train a tokenizer and a nano-sized model on it, and fill gaps in held-out text."""
    from tibert_keras.inference.fill import fill_texts
    from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
    from tibert_keras.records.pipeline import Records
    from tibert_keras.saved_model.export import export_saved_model, require_tensorflow
    from tibert_keras.training.evaluate import evaluate

    started = time.monotonic()
    require_tensorflow()
    folder = Path(config.output_dir)
    tokenizer = f"{folder}/tokenizer/spiece.model"
    _prepare(folder, tokenizer)
    champion = _train(folder, config.num_train_steps)
    scores = evaluate(TibertMaskedLM.from_preset(champion.preset), Records.find(f"{folder}/single_masks/*.tf_record"))
    _LOG.info(
        "Held-out text: loss %.3f (unigram %.3f); single masks filled correctly: %.1f%%, within the first 5: %.1f%%",
        scores["loss"], scores["unigram_entropy"], 100 * scores["accuracy"], 100 * scores["top_5_accuracy"],
    )  # fmt: skip
    if scores["accuracy"] < _REQUIRED_ACCURACY:
        raise InputError(
            f"The model has not learned the sample's grammar. Received: {scores['accuracy']:.1%} of masked tokens "
            f"filled, {_REQUIRED_ACCURACY:.0%} required. Train longer (num_train_steps={config.num_train_steps})."
        )
    export_saved_model(champion.preset, folder / "saved_model")
    gaps = _make_gaps()
    filled = list(fill_texts(enumerate(gaps, 1), model=folder / "saved_model"))
    _LOG.info(
        "Corpus: %s/corpus\nTokenizer: %s/tokenizer\nRecords: %s/records\nRun: %s/run\nChampion: %s\n"
        "SavedModel: %s/saved_model",
        *[folder] * 4, champion.preset, folder,
    )  # fmt: skip
    _LOG.info(
        "Done in %.0f s. The syllables in the gaps below were: %s", time.monotonic() - started, " ".join(gaps.values())
    )
    return filled


def _prepare(folder: Path, tokenizer: str) -> None:
    """Make the corpus, the tokenizer and the records."""
    from tibert_keras.records.build import build_records

    write_sample(f"{folder}/sample", num_files=10)
    corpus = CorpusConfig(
        input_file=f"{folder}/sample/*.txt", output_dir=f"{folder}/corpus", validation_volumes=[10], workers=1
    )
    _LOG.info("Corpus: %s", build_corpus(corpus).summary())
    train_tokenizer(
        TokenizerConfig(
            input_file=f"{folder}/corpus/train_*.txt",
            output_dir=os.path.dirname(tokenizer),
            vocab_size=1000,
            tsheg_pretokenization=True,
        )
    )
    common: dict[str, Any] = {
        "spm_model_file": tokenizer,
        "max_seq_length": _MAX_SEQ_LENGTH,
        "ngram": 1,
        # A mask hides at most one syllable.
        "tsheg_pretokenization": True,
        "workers": 1,
    }
    training = RecordsConfig(
        input_file=f"{folder}/corpus/train_*.txt",
        output_dir=f"{folder}/records",
        max_predictions_per_seq=_MAX_PREDICTIONS_PER_SEQ,
        dupe_factor=8,
        **common,
    )
    # Gaps as users have them: a single missing token, always marked.
    single = RecordsConfig(
        input_file=f"{folder}/corpus/validation_*.txt",
        output_dir=f"{folder}/single_masks",
        max_predictions_per_seq=1,
        mask_token_rate=1.0,
        random_token_rate=0.0,
        dupe_factor=20,
        **common,
    )
    _LOG.info("Records: %s", build_records(training).summary())
    _LOG.info("Held-out single masks: %s", build_records(single).summary())


def _train(folder: Path, num_train_steps: int) -> Champion:
    from tibert_keras.training.pretrain import pretrain

    return pretrain(
        PretrainConfig(
            input_file=f"{folder}/records/*.tf_record",
            output_dir=f"{folder}/run",
            preset="tibert_nano",
            train_batch_size=16,
            max_seq_length=_MAX_SEQ_LENGTH,
            max_predictions_per_seq=_MAX_PREDICTIONS_PER_SEQ,
            learning_rate=0.02,
            num_train_steps=num_train_steps,
            num_warmup_steps=num_train_steps // 10,
            save_checkpoints_steps=max(num_train_steps // 6, 1),
            jit_compile=True,
        )
    )


def _make_gaps() -> dict[str, str]:
    """Make held-out texts with a gap of one syllable each, mapped to the missing syllable."""
    gaps = {}
    for document in sample_documents(seed=2, num_documents=5):
        syllables = " ".join(document[2:6]).split(TSHEG)
        middle = len(syllables) // 2
        while SHAD in syllables[middle]:
            middle += 1
        missing, syllables[middle] = syllables[middle], "[GAP:1]"
        gaps[TSHEG.join(syllables)] = missing
    return gaps
