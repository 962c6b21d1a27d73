"""A fine-tuning that trains nothing."""

import pytest

from tests.support.made_up_tags import write_horizontal
from tibert_keras.finetuning.config import FinetuneTokensConfig
from tibert_keras.finetuning.scores import write_json
from tibert_keras.finetuning.tokens import finetune_tokens
from tibert_keras.runs.folder import write_config


@pytest.fixture
def run_without_training(tagger_config, tmp_path):
    """Makes the options of a run whose folder already has the scores of its seeds, so that it trains nothing."""

    def make(seeds: tuple[float, ...] = (0.5,)) -> FinetuneTokensConfig:
        files = {
            f"{part}_file": write_horizontal(tmp_path / f"{name}.txt", seed=seed, num_documents=30)
            for seed, (part, name) in enumerate((("input", "train"), ("validation", "validation"), ("test", "test")))
        }
        config = tagger_config(tmp_path / "finished", num_seeds=len(seeds), **files)
        write_config(config)
        for index, value in enumerate(seeds):
            of_part = {"joint_f1": value}
            result = {"seed": config.seed + index, "epoch": 1, "validation": of_part, "test": of_part}
            write_json(result, f"{config.output_dir}/seed_{index}/scores.json")
        finetune_tokens(config)
        return config

    return make
