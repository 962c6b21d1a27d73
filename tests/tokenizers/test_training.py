"""SentencePiece training: the recipes' special pieces, what a text supports, and inputs that cannot be used."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.tibetan import INTERSYLLABIC_MARKS
from tibert_keras.tokenizers import training
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

MARKS = ["(", ")", '"', "-", ".", "–", "£", "€"]


@pytest.fixture
def config(tmp_path):
    """Two files of text of about 40 letters, and the folder for a small byte-pair model."""
    (tmp_path / "a.txt").write_text("བཅོམ་ལྡན་འདས་ལ་ཕྱག་འཚལ་ལོ། །\n\nའདི་སྐད་བདག་གིས་ཐོས་པ།\n" * 20, encoding="utf-8")
    (tmp_path / "b.txt").write_text("དུས་གཅིག་ན་རྒྱལ་པོའི་ཁབ་ན།\n" * 20, encoding="utf-8")
    return TokenizerConfig(input_file=f"{tmp_path}/*.txt", output_dir=str(tmp_path / "tokenizer"), vocab_size=60)


def replace(config, **changes):
    return TokenizerConfig(**{**vars(config), **changes})


def trained(config):
    train_tokenizer(config)
    return sentencepiece_model_pb2.ModelProto.FromString((Path(config.output_dir) / "spiece.model").read_bytes())


class TestRecipes:
    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    def test_special_pieces(self, spm_models, kind):
        model = sentencepiece_model_pb2.ModelProto.FromString(Path(spm_models[kind]).read_bytes())
        kinds = sentencepiece_model_pb2.ModelProto.SentencePiece.Type
        special = [(piece.piece, kinds.Name(piece.type)) for piece in model.pieces if piece.type != kinds.NORMAL]
        assert special == [
            ("<pad>", "CONTROL"),
            ("<unk>", "UNKNOWN"),
            ("[CLS]", "CONTROL"),
            ("[SEP]", "CONTROL"),
            ("[MASK]", "CONTROL"),
            *((mark, "USER_DEFINED") for mark in MARKS),
        ]
        assert len(model.pieces) == 400
        assert [piece.piece for piece in model.pieces][: len(special)] == [piece for piece, _ in special]
        processor = sentencepiece.SentencePieceProcessor(model_file=spm_models[kind])
        ids = [processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id()]
        assert ids == [0, 1, -1, -1]

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    def test_marks_are_pieces_by_themselves(self, spm_models, kind):
        processor = sentencepiece.SentencePieceProcessor(model_file=spm_models[kind])
        assert processor.EncodeAsPieces("".join(MARKS) + ",") == ["▁", *MARKS, ","]

    def test_what_a_recipe_consists_of(self, spm_models):
        found = {}
        for kind, path in spm_models.items():
            model = sentencepiece_model_pb2.ModelProto.FromString(Path(path).read_bytes())
            trainer, normalizer = model.trainer_spec, model.normalizer_spec
            name = trainer.ModelType.Name(trainer.model_type)
            found[kind] = (name, round(trainer.character_coverage, 6), normalizer.name, trainer.hard_vocab_limit)
        assert found == {
            "bpe": ("BPE", 1.0, "tibetan", True),
            "unigram": ("UNIGRAM", 0.99995, "tibetan", True),
        }

    def test_scores_of_unigrams_add_up_exactly(self, spm_models):
        model = sentencepiece_model_pb2.ModelProto.FromString(Path(spm_models["unigram"]).read_bytes())
        scores = np.array([piece.score for piece in model.pieces if piece.type == piece.NORMAL])
        assert np.array_equal(scores * 2048, np.round(scores * 2048)) and len(set(scores)) > 100
        # Those of the longest section, in 32 bits and any order.
        many = np.random.default_rng(0).choice(scores, 1000)
        assert many.sum() < -4096
        assert np.cumsum(many, dtype="float32")[-1] == np.cumsum(many[::-1], dtype="float32")[-1] == many.sum()

    def test_one_with_scores_that_were_not_rounded_is_not_replaced(self, config):
        unigram = replace(config, recipe="albert", vocab_size=45)
        train_tokenizer(unigram)
        path = Path(config.output_dir) / "tokenizer_manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        assert manifest.pop("score_step") == 1 / 2048
        train_tokenizer(unigram)
        path.write_text(json.dumps(manifest), encoding="utf-8")
        with pytest.raises(InputError, match="score_step=None there, 0.00048828125 now"):
            train_tokenizer(unigram)

    def test_what_is_given_replaces_the_recipe(self, config):
        assert TokenizerConfig(input_file="x", output_dir="y").trainer_options["vocab_size"] == 10_000
        assert TokenizerConfig(input_file="x", output_dir="y", recipe="albert").trainer_options["vocab_size"] == 30_000
        model = trained(replace(config, recipe="albert", model_type="bpe"))
        assert model.trainer_spec.model_type == model.trainer_spec.BPE
        assert len(model.pieces) == 60

    def test_every_character_of_the_olive_recipe(self, config):
        pieces = "".join(piece.piece for piece in trained(config).pieces)
        text = "".join(path.read_text(encoding="utf-8") for path in Path(config.output_dir).parent.glob("*.txt"))
        assert set(text) - {" ", "\n"} <= set(pieces)

    def test_no_piece_crosses_a_mark_if_asked(self, config):
        def across(config):
            pieces = [piece.piece for piece in trained(config).pieces]
            return [piece for piece in pieces if any(mark in piece[:-1] for mark in INTERSYLLABIC_MARKS)]

        assert across(config)
        within = replace(config, tsheg_pretokenization=True, output_dir=f"{config.output_dir}_within")
        assert not across(within)
        tokenizer = TibertTokenizer(f"{within.output_dir}/spiece.model", tsheg_pretokenization=True, dtype="string")
        assert "".join(tokenizer("བཅོམ་ལྡན་འདས་ལ་")) == "▁བཅོམ་ལྡན་འདས་ལ་"

    def test_counted_units_make_the_same_model(self, config, monkeypatch):
        """Whether SentencePiece reads each section, or each different syllable once with its number."""
        with (Path(config.output_dir).parent / "b.txt").open("a", encoding="utf-8") as file:
            file.write(' (ཀ་"ཁ) ། ▁ \t༄༅། །ཧཱུྃ་  abc 12\n་་། །\n')
        within = replace(config, tsheg_pretokenization=True)
        counted = trained(within)
        monkeypatch.setattr(training, "_count_units", lambda *_: None)
        assert counted == trained(within)

    def test_a_sample_is_left_to_sentence_piece(self, config):
        within = replace(config, tsheg_pretokenization=True)
        paths = sorted(map(str, Path(config.output_dir).parent.glob("*.txt")))
        counts = {size: training._count_units(paths, replace(within, input_sentence_size=size)) for size in (0, 59, 60)}
        assert counts[0] == counts[60] and counts[59] is None
        assert counts[0]["▁བཅོམ་"] == 20 and counts[0]["ལྡན་"] == 20 and counts[0]["\u2063"] == 420
        assert training._count_units(paths, config) is None
        assert training._count_units(paths, replace(within, model_type="unigram")) is None


class TestFiles:
    def test_what_is_written(self, config):
        manifest = train_tokenizer(config)
        folder = Path(config.output_dir)
        assert sorted(path.name for path in folder.iterdir()) == [
            "spiece.model",
            "spiece.vocab",
            "tokenizer_manifest.json",
        ]
        assert manifest == json.loads((folder / "tokenizer_manifest.json").read_text(encoding="utf-8"))
        digests = {name: hashlib.sha256((folder.parent / name).read_bytes()).hexdigest() for name in ("a.txt", "b.txt")}
        assert manifest["inputs"] == digests
        assert manifest["sha256"] == hashlib.sha256((folder / "spiece.model").read_bytes()).hexdigest()
        assert (manifest["vocab_size"], manifest["model_type"], manifest["recipe"]) == (60, "bpe", "olive")
        vocabulary = (folder / "spiece.vocab").read_text(encoding="utf-8").splitlines()
        pieces = TibertTokenizer(str(folder / "spiece.model")).get_vocabulary()
        assert [line.split("\t")[0] for line in vocabulary] == pieces

    def test_another_tokenizer_is_not_replaced(self, config):
        train_tokenizer(config)
        with pytest.raises(InputError, match="vocab_size=60 there, 61 now"):
            train_tokenizer(replace(config, vocab_size=61))
        with pytest.raises(InputError, match="tsheg_pretokenization=False there, True now"):
            train_tokenizer(replace(config, tsheg_pretokenization=True))
        # An older folder's manifest has the name of a file of Hugging Face's.
        manifest = Path(config.output_dir) / "tokenizer_manifest.json"
        manifest.rename(manifest.with_name("tokenizer.json"))
        with pytest.raises(InputError, match="vocab_size=60 there, 61 now"):
            train_tokenizer(replace(config, vocab_size=61))
        train_tokenizer(config)
        assert manifest.exists() and not manifest.with_name("tokenizer.json").exists()
        manifest.unlink()
        with pytest.raises(InputError, match="holds no tokenizer. Received: output_dir="):
            train_tokenizer(config)
        assert len(list(Path(config.output_dir).iterdir())) == 2

    def test_long_lines_count(self, config):
        # SentencePiece by itself passes over what is longer than 4,192 bytes.
        with (Path(config.output_dir).parent / "b.txt").open("a", encoding="utf-8") as file:
            file.write("བཅོམ་ལྡན་འདས་" * 200 + "ཧཱུྃ\n")
        assert "ྃ" in "".join(piece.piece for piece in trained(config).pieces)


class TestWhatTheTextSupports:
    @pytest.mark.parametrize(("recipe", "size"), [("olive", 2000), ("albert", 30_000)])
    def test_too_many_pieces(self, config, recipe, size):
        asked = replace(config, recipe=recipe, vocab_size=size)
        with pytest.raises(InputError, match=rf"at most \d+ pieces\. Received: vocab_size={size}\. Choose") as error:
            train_tokenizer(asked)
        assert not Path(config.output_dir).exists()
        limit = int(str(error.value).split("at most ")[1].split()[0])
        assert 40 < limit < size
        assert len(trained(replace(asked, vocab_size=limit)).pieces) == limit

    def test_fewer_pieces_than_letters(self, config):
        with pytest.raises(
            InputError, match=r"The letters of the text and the special pieces are \d+ already. Received: vocab_size=20"
        ):
            train_tokenizer(replace(config, vocab_size=20))
        with pytest.raises(InputError, match=r"The special pieces are more already. Received: vocab_size=1. Choose"):
            train_tokenizer(replace(config, vocab_size=1))

    def test_a_unigram_model_of_running_tibetan(self, shared, tmp_path):
        # SentencePiece 0.2.3 finds so few seeds in this text that it can make no more than 144 pieces of it.
        source = shared / "golden" / "records" / "input.txt"
        config = TokenizerConfig(
            input_file=str(source), output_dir=str(tmp_path / "t"), recipe="albert", vocab_size=4000
        )
        assert len(trained(config).pieces) == 4000


class TestBadInput:
    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"\xe0\xbd\x80\n\xff\n", "Not a UTF-8 file: .* at byte 4"), (b"", "The file is empty")],
        ids=["not_utf8", "empty"],
    )
    @pytest.mark.parametrize("recipe", ["olive", "albert"])
    def test_a_bad_file_after_good_ones(self, config, recipe, content, message):
        config = replace(config, recipe=recipe, vocab_size=48)
        train_tokenizer(config)
        before = (Path(config.output_dir) / "spiece.model").read_bytes()
        (Path(config.output_dir).parent / "c.txt").write_bytes(content)
        with pytest.raises(InputError, match=f"{message}.*c.txt"):
            train_tokenizer(config)
        assert (Path(config.output_dir) / "spiece.model").read_bytes() == before
        names = sorted(path.name for path in Path(config.output_dir).parent.iterdir())
        assert names == ["a.txt", "b.txt", "c.txt", "tokenizer"]

    def test_only_empty_lines(self, config, tmp_path):
        (tmp_path / "d").write_text("\n\n", encoding="utf-8")
        with pytest.raises(InputError, match="could not train.*Received: input_file="):
            train_tokenizer(replace(config, input_file=str(tmp_path / "d")))

    def test_no_file(self, config, tmp_path):
        with pytest.raises(InputError, match="No file matches"):
            train_tokenizer(replace(config, input_file=f"{tmp_path}/*.none"))
