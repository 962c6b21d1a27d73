"""Classifiers in transformers' folders: the same logits, labels and tokens on both sides, and what is refused."""

import json

import numpy as np
import pytest
from keras import ops

from tests.support.tiny_models import inputs, randomize, tiny
from tibert_keras import (
    TibertTextClassifier,
    TibertTextClassifierPreprocessor,
    TibertTokenClassifier,
    TibertTokenClassifierPreprocessor,
    TibertTokenizer,
)
from tibert_keras.errors import InputError
from tibert_keras.formats.convert import ConvertConfig, convert
from tibert_keras.formats.hugging_face import read_hugging_face, write_hugging_face
from tibert_keras.formats.hugging_face_weights import read_weights
from tibert_keras.formats.portable import PortableModel, read_keras

LABELS = ["NOUN", "VERB+ADP", "CONT"]
KINDS = {"TokenClassification": TibertTokenClassifier, "SequenceClassification": TibertTextClassifier}
PREPROCESSORS = {
    TibertTokenClassifier: TibertTokenClassifierPreprocessor,
    TibertTextClassifier: TibertTextClassifierPreprocessor,
}

each_kind = pytest.mark.parametrize("name", KINDS)


def make(name, spm_model, **sizes):
    kind, tokenizer = KINDS[name], TibertTokenizer(spm_model)
    preprocessor = PREPROCESSORS[kind](tokenizer, labels=LABELS, sequence_length=16)
    return randomize(kind(tiny(vocabulary_size=400, **sizes), labels=LABELS, preprocessor=preprocessor, dropout=0.25))


@pytest.fixture
def libraries():
    reason = "transformers and torch are the other side of this comparison"
    return pytest.importorskip("transformers", reason=reason), pytest.importorskip("torch", reason=reason)


def logits_there(torch, model, x):
    model.eval()
    with torch.no_grad():
        names = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}
        return model(**{theirs: torch.tensor(x[ours]) for theirs, ours in names.items()}).logits.numpy()


@each_kind
class TestTransformers:
    def test_ours_there(self, name, libraries, spm_models, tmp_path):
        transformers, torch = libraries
        model = make(name, spm_models["bpe"])
        portable = PortableModel(model=model, tokenizer=model.preprocessor.tokenizer)
        write_hugging_face(portable, tmp_path / "hf")
        auto = getattr(transformers, f"AutoModelFor{name}")
        theirs, info = auto.from_pretrained(tmp_path / "hf", output_loading_info=True)
        assert not info["missing_keys"] and not info["mismatched_keys"]
        assert set(info["unexpected_keys"]) <= {"albert.pooler.weight", "albert.pooler.bias"}
        assert theirs.config.id2label == dict(enumerate(LABELS)) and theirs.config.label2id["VERB+ADP"] == 1
        x = inputs(model.backbone)
        np.testing.assert_allclose(logits_there(torch, theirs, x), ops.convert_to_numpy(model(x)), rtol=0, atol=1e-5)

    def test_theirs_here(self, name, libraries, tmp_path):
        transformers, torch = libraries
        config = transformers.AlbertConfig(
            vocab_size=20, embedding_size=4, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=12, max_position_embeddings=16, id2label=dict(enumerate(LABELS)),
            label2id={label: number for number, label in enumerate(LABELS)}, classifier_dropout_prob=0.3,
        )  # fmt: skip
        theirs = getattr(transformers, f"AlbertFor{name}")(config)
        torch.manual_seed(0)
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        theirs.save_pretrained(tmp_path)
        model = read_hugging_face(str(tmp_path)).model
        assert type(model) is KINDS[name] and model.labels == LABELS and model.dropout == 0.3
        x = inputs(model.backbone)
        np.testing.assert_allclose(ops.convert_to_numpy(model(x)), logits_there(torch, theirs, x), rtol=0, atol=1e-5)


class TestTagger:
    def test_raw_text(self, libraries, spm_models, sample_corpus, tmp_path):
        """transformers' tokens of a text are those of the syllables here, so its tags are ours."""
        transformers, _ = libraries
        model = make("TokenClassification", spm_models["bpe"])
        tokenizer = model.preprocessor.tokenizer
        write_hugging_face(PortableModel(model=model, tokenizer=tokenizer), tmp_path / "hf")
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
        lines = (sample_corpus / "train_0.txt").read_text(encoding="utf-8").splitlines()[:200]
        texts = [line for line in lines if line] + ["བཤད། །ཅེས། །", " ༄༅། །ཀ ཁ་", "ཀ་ཁ༑༔ག"]
        syllables = model.preprocessor.pack(texts).syllables
        ours = [[piece for part in text for piece in part] for text in tokenizer.encode_syllables(syllables)]
        assert theirs(texts, add_special_tokens=False)["input_ids"] == ours


class TestConvert:
    @each_kind
    def test_there_and_back(self, name, spm_models, tmp_path):
        model = make(name, spm_models["bpe"], num_groups=2)
        model.save_to_preset(str(tmp_path / "preset"))
        for before, after in (("preset", "huggingface"), ("huggingface", "again")):
            formats = {"preset": "keras", "again": "keras"}
            options = {"from_": formats.get(before, before), "to": formats.get(after, after)}
            config = ConvertConfig(input=str(tmp_path / before), output=str(tmp_path / after), **options)
            proof = convert(config)
            assert max(proof.values()) < 1e-5 and "classes" in proof
        again = read_keras(str(tmp_path / "again")).model
        assert type(again) is type(model) and again.labels == LABELS and again.dropout == 0.25
        assert again.preprocessor.tokenizer.proto == model.preprocessor.tokenizer.proto
        for ours, theirs in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_to_google(self, spm_models, tmp_path):
        make("TokenClassification", spm_models["bpe"]).save_to_preset(str(tmp_path / "preset"))
        config = ConvertConfig(from_="keras", input=str(tmp_path / "preset"), to="google", output=str(tmp_path / "out"))
        with pytest.raises(InputError, match="no taggers and classifiers. .* with --to=huggingface"):
            convert(config)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "changes",
        [{"architectures": ["AlbertForMaskedLM"]}, {"architectures": None}, {"id2label": {"0": "A", "2": "B"}},
         {"id2label": {"0": "A", "1": "A", "2": "B"}}, {"id2label": LABELS}, {"id2label": {"0": 1, "1": 2, "2": 3}},
         {"architectures": 1}],
    )  # fmt: skip
    def test_no_word_on_the_classes(self, changes, spm_models, tmp_path):
        folder = self.changed("TokenClassification", spm_models, tmp_path, **changes)
        with pytest.raises(InputError, match="does not name the classes. Received: architectures="):
            read_hugging_face(folder)

    def test_fewer_labels_than_classes(self, spm_models, tmp_path):
        folder = self.changed("TokenClassification", spm_models, tmp_path, id2label={"0": "A"})
        with pytest.raises(InputError, match=r"Received: classifier\.\w+ of shape \(3,.*\), \(1,.*\) in the model"):
            read_hugging_face(folder)

    @pytest.mark.parametrize("dropout", ["x", None, 1.0, -0.1, True])
    def test_dropout(self, dropout, spm_models, tmp_path):
        folder = self.changed("TokenClassification", spm_models, tmp_path, classifier_dropout_prob=dropout)
        with pytest.raises(InputError, match="Received: classifier_dropout_prob=.* Correct it in config.json."):
            read_hugging_face(folder)

    @pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
    def test_other_problems(self, problem, spm_models, tmp_path):
        folder = self.changed("SequenceClassification", spm_models, tmp_path, problem_type=problem)
        with pytest.raises(InputError, match=f"Received: problem_type='{problem}'. Give one of problem_type='single_l"):
            read_hugging_face(folder)

    @pytest.mark.parametrize("problem", ["single_label_classification", None])
    def test_the_problem_that_is_ours(self, problem, spm_models, tmp_path):
        folder = self.changed("SequenceClassification", spm_models, tmp_path, problem_type=problem)
        assert type(read_hugging_face(folder).model) is TibertTextClassifier

    def test_one_label(self, spm_models, tmp_path):
        """With one class and no word on the problem transformers predicts a number."""
        changes = {"problem_type": None, "id2label": {"0": "A"}}
        folder = self.changed("SequenceClassification", spm_models, tmp_path, **changes)
        with pytest.raises(InputError, match="Received: problem_type='regression'"):
            read_hugging_face(folder)

    def test_without_pooler(self, spm_models, tmp_path):
        from safetensors.numpy import save_file

        folder = self.changed("SequenceClassification", spm_models, tmp_path)
        arrays = {name: array for name, array in read_weights(folder).items() if "pooler" not in name}
        save_file(arrays, f"{folder}/model.safetensors", metadata={"format": "pt"})
        message = "The classifier's pooler is missing. Received: '.*/hf' without albert.pooler.weight"
        with pytest.raises(InputError, match=message):
            read_hugging_face(folder)
        options = {"from_": "huggingface", "input": folder, "to": "huggingface", "output": folder}
        with pytest.raises(InputError, match=message):
            convert(ConvertConfig(check=True, **options))

    def changed(self, name, spm_models, tmp_path, **changes):
        """A folder of a classifier with changes to its configuration."""
        write_hugging_face(PortableModel(model=make(name, spm_models["bpe"])), tmp_path / "hf")
        config = json.loads((tmp_path / "hf/config.json").read_text())
        (tmp_path / "hf/config.json").write_text(json.dumps({**config, **changes}))
        return str(tmp_path / "hf")
