"""Token ids to masked batches: examples, masking, record files, input pipelines and preprocessors."""

from tibert_keras.data.config import RecordsConfig
from tibert_keras.data.examples import ExamplePolicy
from tibert_keras.data.inspection import RecordStatistics, inspect_records, readable_examples, tokenizer_of_records
from tibert_keras.data.manifest import Manifest
from tibert_keras.data.masking import MaskedTokens, MaskingPolicy, mask_tokens
from tibert_keras.data.pipeline import Records
from tibert_keras.data.records import build_records
from tibert_keras.data.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.data.tibert_text_classifier_preprocessor import TibertTextClassifierPreprocessor
from tibert_keras.data.tibert_token_classifier_preprocessor import PackedSyllables, TibertTokenClassifierPreprocessor

__all__ = [
    "ExamplePolicy",
    "Manifest",
    "MaskedTokens",
    "MaskingPolicy",
    "PackedSyllables",
    "RecordStatistics",
    "Records",
    "RecordsConfig",
    "TibertMaskedLMPreprocessor",
    "TibertTextClassifierPreprocessor",
    "TibertTokenClassifierPreprocessor",
    "build_records",
    "inspect_records",
    "mask_tokens",
    "readable_examples",
    "tokenizer_of_records",
]
