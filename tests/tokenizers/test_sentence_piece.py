"""SentencePiece without Keras; tests/models/test_tibert_tokenizer.py tests the same encodings through the tokenizer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from tibert_keras.tokenizers.sentence_piece import SPECIAL_TOKENS, SentencePieceEncoder


@pytest.fixture
def sample_lines(sample_corpus: Path) -> list[str]:
    return (sample_corpus / "train_0.txt").read_text(encoding="utf-8").split("\n")[:100]


@pytest.mark.parametrize("matched", [False, True])
def test_special_pieces_in_a_text(spm_models, matched):
    """They are text, even if the model itself would match them; only `[MASK]` is one if it is asked for."""
    trained = sentencepiece.SentencePieceProcessor(model_file=spm_models["bpe"])
    model = sentencepiece_model_pb2.ModelProto.FromString(trained.serialized_model_proto())
    for piece in model.pieces:
        if matched and piece.piece in SPECIAL_TOKENS:
            piece.type = piece.USER_DEFINED
    proto, texts = model.SerializeToString(), ["ཀ་[MASK]་ཁ", " [MASK]  [MASK][MASK]", "<pad>ཀ[CLS] [SEP]x[MASK]"]
    expected = trained.Encode(texts)
    assert not {0, 2, 3, 4} & {number for ids in expected for number in ids}
    assert SentencePieceEncoder(proto, masks_in_text=False).encode(texts) == expected
    masked = SentencePieceEncoder(proto).encode(texts)
    assert [ids.count(4) for ids in masked] == [1, 3, 1] and not {0, 2, 3} & set(sum(masked, []))


class TestSampling:
    @pytest.fixture(params=["bpe", "unigram"])
    def encoder(self, spm_models: dict[str, str], request: pytest.FixtureRequest) -> SentencePieceEncoder:
        return SentencePieceEncoder(Path(spm_models[request.param]).read_bytes(), nbest_size=64, alpha=0.1)

    def test_the_seed_alone_decides(self, encoder, sample_lines):
        lines = sample_lines[:10]
        expected = {seed: encoder.encode_seeded(lines, seed=seed) for seed in range(20)}
        assert len({str(rows) for rows in expected.values()}) == 20
        encoder.encode(lines)
        with ThreadPoolExecutor(8) as threads:
            seeds = [*reversed(range(20))] * 3
            again = list(threads.map(lambda seed: encoder.encode_seeded(lines, seed=seed), seeds))
        assert again == [expected[seed] for seed in seeds]

    def test_the_seed_stays_out_of_other_sampling(self, encoder, sample_lines):
        draws = []
        for _ in range(2):
            encoder.encode_seeded(sample_lines[:1], seed=1)
            draws.append(encoder.encode(sample_lines))
        assert draws[0] != draws[1]

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    def test_off_by_default(self, spm_models, sample_lines, kind):
        encoder = SentencePieceEncoder(Path(spm_models[kind]).read_bytes())
        assert encoder.encode(sample_lines) == encoder.encode_seeded(sample_lines, seed=1)
