"""The untrained model of a run, from its options and the tokenizer of its records."""

from __future__ import annotations

import logging
import os

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.records.pipeline import Records
from tibert_keras.storage import read_bytes
from tibert_keras.training.config import PretrainConfig

_LOG = logging.getLogger(__name__)


def initial_model(config: PretrainConfig, records: Records) -> TibertMaskedLM:
    """Make the untrained model of a run, with a preprocessor if the tokenizer of the records is known.

    It is of float32 whatever it will compute in: KerasHub loads no preset that was saved with mixed precision.

    Raises:
        InputError: If the architecture, the tokenizer and the records do not go together.
    """
    preprocessor = _preprocessor(config, records)
    size = preprocessor and preprocessor.tokenizer.vocabulary_size()
    if config.albert_config_file is not None:
        backbone = TibertBackbone.from_albert_config(config.albert_config_file, dtype="float32")
    elif size is None:
        raise InputError(
            "A preset takes the size of the vocabulary from the tokenizer, and there is none beside the records. "
            f"Received: preset={config.preset!r}, spm_model_file=None. Give spm_model_file or albert_config_file."
        )
    else:
        backbone = TibertBackbone.from_preset(config.preset or "", vocabulary_size=size, dtype="float32")
    if size not in (None, backbone.vocabulary_size):
        raise InputError(
            f"The tokenizer and the model disagree. Received: {size} pieces in the tokenizer, "
            f"vocab_size={backbone.vocabulary_size} in albert_config_file. Give the tokenizer of the records."
        )
    return (TibertPretraining if config.sop else TibertMaskedLM)(backbone, preprocessor=preprocessor)


def _preprocessor(config: PretrainConfig, records: Records) -> TibertMaskedLMPreprocessor | None:
    """The preprocessor with the tokenizer of the records, or `None` if nobody knows it."""
    path = config.spm_model_file
    if path is None:
        if records.tokenizer is None:
            _LOG.warning("No tokenizer is beside the records; without spm_model_file the champion takes only ids.")
            return None
        path = f"{os.path.dirname(records.paths[0])}/{TOKENIZER_FILE}"
    proto = read_bytes(path)
    records.check_tokenizer(proto)  # before the size of its vocabulary can be the complaint
    options = {} if records.tokenizer is None else records.tokenizer["options"]
    # Text is masked as the records were, under KerasHub's names.
    names = {"masked_lm_prob": "mask_selection_rate", "max_predictions_per_seq": "mask_selection_length"}
    masking = records.masking or {"max_predictions_per_seq": config.max_predictions_per_seq}
    return TibertMaskedLMPreprocessor(
        TibertTokenizer(proto, **options),
        sequence_length=config.max_seq_length,
        **{names.get(name, name): value for name, value in masking.items()},
    )
