"""The verbs of fine-tuning."""

from __future__ import annotations

from tibert_keras.training import FinetuneTextConfig, FinetuneTokensConfig, finetune_text, finetune_tokens
from tibert_keras.training.finetune_scores import score_table


def tokens(config: FinetuneTokensConfig) -> None:
    """Fine-tune a tagger of words and parts of speech, and measure it. Given again, it goes on with missing seeds."""
    scores = finetune_tokens(config)
    print(score_table(config.output_dir, scores, config.others))


def text(config: FinetuneTextConfig) -> None:
    """Fine-tune a classifier of texts, and measure it. Given again, it goes on with missing seeds."""
    scores = finetune_text(config)
    print(score_table(config.output_dir, scores, config.others))
