"""The verbs of fine-tuning."""

from __future__ import annotations

from tibert_keras.cards.card import write_card
from tibert_keras.finetuning.config import FinetuneConfig, FinetuneTextConfig, FinetuneTokensConfig
from tibert_keras.finetuning.scores import Scores, score_table
from tibert_keras.finetuning.text import finetune_text
from tibert_keras.finetuning.tokens import finetune_tokens


def tokens(config: FinetuneTokensConfig) -> None:
    """Fine-tune a tagger of words and parts of speech, and measure it. Given again, it goes on with missing seeds."""
    scores = finetune_tokens(config)
    _show(config, scores)


def text(config: FinetuneTextConfig) -> None:
    """Fine-tune a classifier of texts, and measure it. Given again, it goes on with missing seeds."""
    scores = finetune_text(config)
    _show(config, scores)


def _show(config: FinetuneConfig, scores: Scores) -> None:
    """Describe a run in its folder, and print its scores."""
    write_card(config.output_dir)
    print(score_table(config.output_dir, scores, config.others))
