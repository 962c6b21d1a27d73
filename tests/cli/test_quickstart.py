"""The quickstart: that a model which learned nothing does not look like success."""

from functools import partial

import keras
import pytest

from tibert_keras.cli import quickstart
from tibert_keras.cli.main import main
from tibert_keras.corpus.sample import write_sample
from tibert_keras.training.config import PretrainConfig


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="says what another backend cannot do")
def test_another_backend_is_refused_at_once(tmp_path, capsys):
    assert main(["quickstart", f"--output_dir={tmp_path}/out"]) == 1
    assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="ends with a SavedModel, which is TensorFlow's")
class TestQuickstart:
    @pytest.fixture
    def quick(self, monkeypatch):
        """Fewer documents, and no time for XLA."""
        monkeypatch.setattr(quickstart, "write_sample", partial(write_sample, num_documents=60))
        monkeypatch.setattr(
            quickstart, "PretrainConfig", lambda **given: PretrainConfig(**{**given, "jit_compile": False})
        )

    def test_too_few_steps(self, quick, tmp_path, capsys):
        """And the same folder again, with a bar that even this model passes, gives filled masks."""
        words = ["quickstart", f"--output_dir={tmp_path}", "--num_train_steps=3"]
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "has not learned the sample's grammar. Received: " in err and "(num_train_steps=3)" in err
        assert not (tmp_path / "saved_model").exists()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(quickstart, "_REQUIRED_ACCURACY", 0.0)
            assert main(words) == 0
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert [line[0] for line in lines] == ["1.1", "2.1", "3.1", "4.1", "5.1"]
        assert all("[MASK]" not in filled for _, _, filled in lines)
        assert (tmp_path / "saved_model/saved_model.pb").is_file()
