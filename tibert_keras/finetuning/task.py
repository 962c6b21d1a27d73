"""The task of a fine-tuning: the data, the model and the scores."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from tibert_keras.finetuning.config import FinetuneConfig, find_encoder
from tibert_keras.models.keras_hub_presets import read_preset_file
from tibert_keras.models.tibert_presets import local_preset
from tibert_keras.models.tibert_tokenizer import TibertTokenizer

# Inputs, labels and weights, each with the sequences along its first axis.
Examples = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]

_LOG = logging.getLogger(__name__)


class FinetuningTask(ABC):
    """What to learn: the data, the model and the scores."""

    # The score whose maximum marks the best epoch.
    criterion: str
    # The scores to show.
    columns: Sequence[str]
    model_class: Any
    preprocessor_class: Any

    def __init__(
        self,
        config: Any,
        parts: Mapping[str, Sequence[Any]],
        labels: list[str],
        *,
        files: dict[str, str],
        **options: Any,
    ) -> None:
        self.config, self.parts, self.labels, self.files = config, parts, labels, files
        self.final_part = "test" if parts.get("test") else "validation"
        self.preset, tokenizer = load_encoder(config)
        self.preprocessor = self.preprocessor_class(
            tokenizer, labels=labels, sequence_length=config.max_seq_length, class_weight=config.class_weight, **options
        )
        self.sequences = self.encode("train")

    @abstractmethod
    def encode(self, part: str) -> Examples:
        """Encode a part of the data for training."""

    @abstractmethod
    def measure(self, model: keras.Model, part: str) -> dict[str, float]:
        """Score a model on `validation` or `test`."""

    @abstractmethod
    def baseline(self, part: str) -> dict[str, float]:
        """Score a method that needs no model."""

    @abstractmethod
    def draw(self, model: keras.Model, part: str, run_dir: str) -> None:
        """Draw the confusion matrix into the run's folder."""

    @abstractmethod
    def describe_data(self) -> dict[str, Any]:
        """The sizes of the parts, and as `measured_on` everything that the scores depend on."""

    def make_model(self, dtype: str) -> keras.Model:
        """Make the model over the preset's encoder, trainable as far as the options say."""
        return self.model_over(
            partial(self.model_class.from_preset, self.preset, load_weights=self.config.pretrained, dtype=dtype)
        )

    def model_over(self, make: Callable[..., keras.Model]) -> keras.Model:
        """Make a model by a constructor that lacks only the labels, and make it trainable as the options say."""
        model = make(labels=self.labels, preprocessor=self.preprocessor, dropout=self.config.dropout)
        # A preset may have been saved frozen.
        model.backbone.trainable = not self.config.freeze_backbone
        if self.config.lora_rank is not None:
            model.backbone.enable_lora(self.config.lora_rank)
        return model


def load_encoder(config: FinetuneConfig) -> tuple[str, TibertTokenizer]:
    """Return the folder of the preset that a fine-tuning starts from, and its tokenizer."""
    preset = find_encoder(config)
    with local_preset(preset) as folder:
        trained = read_preset_file(folder, "preprocessor.json").get("config", {}).get("sequence_length")
        if trained and config.max_seq_length > trained:
            _LOG.warning(
                "the encoder was trained on %d positions, and has learnt nothing of later ones: max_seq_length=%d",
                trained,
                config.max_seq_length,
            )
        return preset, TibertTokenizer.from_preset(folder)
