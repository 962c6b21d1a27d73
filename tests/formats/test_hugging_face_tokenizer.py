"""The tokenizer as Hugging Face's libraries load it: the same ids."""

import json
import shutil

import pytest

from tests.support.tiny_models import tiny
from tibert_keras import TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.formats.hugging_face import read_hugging_face, write_hugging_face
from tibert_keras.formats.hugging_face_tokenizer import read_tokenizer, write_tokenizer
from tibert_keras.formats.portable import PortableModel
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM

# What Hugging Face's components do otherwise, left to themselves: space at the edges and around a mask; letters and
# marks that belong to different scripts.
HARD = [
    "", " ", "  ཀ", "\nཀ\n", "ཀ\r\n\tཁ", "▁ཀ ▁", "བཀྲ་ཤིས།   བདེ་ལེགས།", "☺ ཨོཾ་", '("-.–£€)', "１２ Ab é e\u0301 ½",
    "[MASK]", " [MASK] ", "[MASK] [MASK]", "[MASK]་ལེགས།", "  [MASK]་ ཀ", "ཀ [MASK]", "ཀ། [MASK] །ཁ",
    "ཀ´[MASK]\u3000ཁ", "[ MASK]",
    "\u00a0\u0f74", "\u0f0c\u0301ཀ", "½\u0f72", "རཱྀི གྷ རྡཹ", "a\0b\u200bཀ",
]  # fmt: skip


@pytest.fixture
def texts(sample_corpus):
    lines = (sample_corpus / "train_0.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line]
    masked = [f"{line[: len(line) // 2]}[MASK]{line[len(line) // 2 + 1 :]}" for line in lines]
    return [*lines, *masked, *HARD]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
class TestTokenizer:
    @pytest.mark.parametrize("tsheg", [False, True])
    @pytest.mark.parametrize("underline", [True, False])
    def test_fast_tokenizer(self, kind, tsheg, underline, spm_models, texts, tmp_path):
        from tokenizers import Tokenizer

        ours = TibertTokenizer(spm_models[kind], tsheg_pretokenization=tsheg, underline_between_sections=underline)
        write_tokenizer(ours, tmp_path, max_length=16)
        fast = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        for text, ids in zip(texts, ours.encode(texts), strict=True):
            assert fast.encode(text, add_special_tokens=False).ids == ids, text
        assert fast.decode(fast.encode("ཀ་ ཁ").ids) == ("ཀ་ ཁ" if underline else "ཀ་ཁ")
        pair = fast.encode("ཀ", "ཁ")
        assert pair.ids[0] == ours.cls_token_id and pair.ids[-1] == ours.sep_token_id
        assert pair.type_ids[0] == 0 and pair.type_ids[-1] == 1

    def test_auto_tokenizer(self, kind, spm_models, texts, tmp_path):
        transformers = pytest.importorskip("transformers", reason="transformers loads the folder")
        ours = TibertTokenizer(spm_models[kind])
        model = TibertMaskedLM(
            tiny(vocabulary_size=400), preprocessor=TibertMaskedLMPreprocessor(ours, sequence_length=16)
        )
        write_hugging_face(PortableModel(model=model, tokenizer=ours), tmp_path / "hf")
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
        assert [theirs(text, add_special_tokens=False)["input_ids"] for text in texts] == ours.encode(texts)
        # `AlbertTokenizer` takes marks above and below the letters for accents, and makes capitals small.
        kept, bare = theirs(["བསྒྲུབས་ཏེ།", "བསབས་ཏ།"], add_special_tokens=False)["input_ids"]
        assert kept == ours.encode(["བསྒྲུབས་ཏེ།"])[0] != bare
        options = json.loads((tmp_path / "hf/tokenizer_config.json").read_text())
        assert options["keep_accents"] is True and options["do_lower_case"] is False
        assert theirs.mask_token_id == ours.mask_token_id and theirs.pad_token_id == ours.pad_token_id
        assert theirs.unk_token == "<unk>" and theirs.model_max_length == 16
        config = json.loads((tmp_path / "hf/config.json").read_text())
        ids = {"pad_token_id": ours.pad_token_id, "bos_token_id": ours.cls_token_id, "eos_token_id": ours.sep_token_id}
        assert {name: config[name] for name in ids} == ids
        assert read_hugging_face(str(tmp_path / "hf")).tokenizer.proto == ours.proto


class TestReading:
    def test_options_of_ours(self, spm_models, tmp_path):
        ours = TibertTokenizer(spm_models["bpe"], tsheg_pretokenization=True, underline_between_sections=False)
        write_tokenizer(ours, tmp_path, max_length=16)
        again = read_tokenizer(str(tmp_path))
        assert again.proto == ours.proto
        assert again.tsheg_pretokenization and not again.underline_between_sections

    @pytest.mark.parametrize(
        "config", [None, {}, {"do_lower_case": True, "keep_accents": True}, {"do_lower_case": False}]
    )
    def test_another_normalisation(self, config, spm_models, tmp_path, caplog):
        shutil.copyfile(spm_models["bpe"], tmp_path / "spiece.model")
        if config is not None:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        assert read_tokenizer(str(tmp_path)) is not None
        assert "lower-cases letters or drops accents" in caplog.text
        caplog.clear()
        (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "keep_accents": true}')
        read_tokenizer(str(tmp_path))
        assert not caplog.text
