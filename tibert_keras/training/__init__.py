"""Updates to a champion: the configuration of a run, pretraining, checkpoints, champion, evaluation and fine-tuning."""

from tibert_keras.training.champion import Champion, choose_champion, find_preset
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.evaluate import evaluate
from tibert_keras.training.finetune_config import FinetuneTextConfig, FinetuneTokensConfig
from tibert_keras.training.finetune_text import finetune_text
from tibert_keras.training.finetune_tokens import finetune_tokens
from tibert_keras.training.pretrain import pretrain
from tibert_keras.training.termination import RunInterrupted

__all__ = [
    "Champion",
    "FinetuneTextConfig",
    "FinetuneTokensConfig",
    "PretrainConfig",
    "RunInterrupted",
    "choose_champion",
    "evaluate",
    "find_preset",
    "finetune_text",
    "finetune_tokens",
    "pretrain",
]
