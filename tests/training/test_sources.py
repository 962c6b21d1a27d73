"""Records against a model, and the place where one is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.damage import flip_bit
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.records.pipeline import Records
from tibert_keras.training.sources import check_records, naming_damage

LENGTHS = {"max_seq_length": 32, "max_predictions_per_seq": 5}


def read(records: Records) -> None:
    with naming_damage(None, records):
        for _ in records.evaluation_batches(8):
            pass


class TestNamingDamage:
    def test_whole(self, own_records):
        read(own_records)

    def test_a_flipped_bit(self, own_records):
        index = flip_bit(Path(own_records.paths[0]))
        with pytest.raises(InputError, match=f"damaged at example {index}. Received: '{own_records.paths[0]}'"):
            read(own_records)

    def test_a_file_that_is_cut_short(self, own_records):
        path = Path(own_records.paths[0])
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(InputError, match=f"damaged at example {own_records.num_examples - 1}"):
            read(own_records)

    def test_an_example_of_other_lengths(self, own_records, shared):
        """Without a manifest only the first example has been looked at."""
        path = Path(own_records.paths[0])
        with path.open("ab") as file:
            file.write((shared / "golden/records/records_a.tfrecord").read_bytes())
        with pytest.raises(InputError, match=f"Example {own_records.num_examples} of .*32 tokens and 5 predictions"):
            read(own_records)

    def test_other_errors_stay_what_they_are(self, own_records):
        with pytest.raises(ZeroDivisionError), naming_damage(own_records):
            raise ZeroDivisionError


class TestCheckRecords:
    def model(self, spm_model: str, **options) -> TibertMaskedLM:
        preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer(spm_model))
        return TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor, **options)

    def test_they_belong_together(self, own_records, spm_models):
        check_records(own_records, self.model(spm_models["bpe"]), **LENGTHS)

    def test_another_tokenizer_of_the_same_size(self, own_records, spm_models):
        with pytest.raises(InputError, match="another tokenizer. Received: sha256 [0-9a-f]{64}, but [0-9a-f]{64}"):
            check_records(own_records, self.model(spm_models["unigram"]), **LENGTHS)

    def test_another_vocabulary(self, own_records):
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=399)
        with pytest.raises(InputError, match="vocabulary size=400 in the records of .*, 399 for the model"):
            check_records(own_records, model, **LENGTHS)

    def test_a_model_of_fewer_positions(self, own_records, spm_models):
        with pytest.raises(InputError, match="max_seq_length=1024, positions=512"):
            check_records(own_records, self.model(spm_models["bpe"]), max_seq_length=1024, max_predictions_per_seq=5)
