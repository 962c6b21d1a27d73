"""The verbs of fine-tuning."""

from __future__ import annotations

from tibert_keras.export import write_card
from tibert_keras.training import FinetuneTextConfig, FinetuneTokensConfig, finetune_text, finetune_tokens
from tibert_keras.training.finetune_config import FinetuneConfig
from tibert_keras.training.finetune_scores import Scores, score_table


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
