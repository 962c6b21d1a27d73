"""Updates to a champion: the configuration of a run, pretraining, checkpoints, champion and evaluation."""

from tibert_keras.training.champion import Champion, choose_champion, find_preset
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.evaluate import evaluate
from tibert_keras.training.pretrain import pretrain
from tibert_keras.training.termination import RunInterrupted

__all__ = ["Champion", "PretrainConfig", "RunInterrupted", "choose_champion", "evaluate", "find_preset", "pretrain"]
