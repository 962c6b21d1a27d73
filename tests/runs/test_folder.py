"""The folder of a run: its options, its kind, and the presets in it."""

import pytest
import yaml

from tibert_keras.errors import InputError
from tibert_keras.finetuning.config import FinetuneTextConfig, FinetuneTokensConfig
from tibert_keras.runs.folder import check_folder, find_preset, read_config, read_kind, write_config
from tibert_keras.training.config import CHANGEABLE, PretrainConfig

KINDS = {
    "pretrain": (PretrainConfig, {"preset": "tibert_nano"}),
    "finetune tokens": (FinetuneTokensConfig, {"model": "champion", "split_file": "split.tsv"}),
    "finetune text": (FinetuneTextConfig, {"model": "champion"}),
}


def make_config(kind, folder, **changes):
    config_class, options = KINDS[kind]
    return config_class(input_file="a.txt", output_dir=str(folder), **{**options, **changes})


def write_older(config):
    """Write the options as versions without kinds did."""
    write_config(config)
    path = f"{config.output_dir}/config.yaml"
    with open(path) as file:
        content = yaml.safe_load(file)
    assert content.pop("kind") == config.kind
    with open(path, "w") as file:
        yaml.safe_dump(content, file)


@pytest.mark.parametrize("kind", KINDS)
class TestKind:
    def test_written_and_read(self, tmp_path, kind):
        config = make_config(kind, tmp_path)
        write_config(config)
        assert read_kind(str(tmp_path)) == config.kind == kind
        # It is no option: the class takes what was read.
        assert type(config)(**read_config(str(tmp_path))) == config

    def test_of_an_older_run(self, tmp_path, kind):
        write_older(make_config(kind, tmp_path))
        assert read_kind(str(tmp_path)) == kind


class TestCheckFolder:
    @pytest.mark.parametrize("write", [write_config, write_older])
    def test_the_same_run(self, tmp_path, write):
        write(make_config("pretrain", tmp_path))
        check_folder(make_config("pretrain", tmp_path, jit_compile=True), CHANGEABLE)
        with pytest.raises(InputError, match="Received: seed=12345 there, 1 now. Choose another"):
            check_folder(make_config("pretrain", tmp_path, seed=1), CHANGEABLE)

    @pytest.mark.parametrize("write", [write_config, write_older])
    def test_another_kind(self, tmp_path, write):
        write(make_config("finetune text", tmp_path))
        with pytest.raises(InputError, match="Received: kind='finetune text' there, 'pretrain' now. Choose another"):
            check_folder(make_config("pretrain", tmp_path), CHANGEABLE)

    def test_an_unknown_kind(self, tmp_path):
        (tmp_path / "config.yaml").write_text("kind: baking")
        with pytest.raises(InputError, match="Not the configuration of a run. Received: .* with kind='baking'"):
            check_folder(make_config("pretrain", tmp_path), CHANGEABLE)


class TestFindPreset:
    def test_a_run_or_its_preset(self, finished_run):
        preset = f"{finished_run}/champion"
        assert find_preset(finished_run) == find_preset(preset) == preset

    def test_neither(self, tmp_path):
        with pytest.raises(InputError, match=f"Received: '{tmp_path}'"):
            find_preset(tmp_path)

    def test_an_encoder_alone(self, tmp_path):
        (tmp_path / "config.json").write_text('{"registered_name": "tibert_keras>TibertBackbone"}')
        assert find_preset(tmp_path) == str(tmp_path)
        with pytest.raises(InputError, match="is an encoder without a head, and a tagger is needed. Received: "):
            find_preset(tmp_path, task="TibertTokenClassifier")
