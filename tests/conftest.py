"""Fixtures for all tests."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from tibert_keras.finetuning.config import FinetuneTokensConfig
    from tibert_keras.models.tibert_backbone import TibertBackbone
    from tibert_keras.records.pipeline import Records
    from tibert_keras.training.config import PretrainConfig

# Gives the folder of a name, which a function has filled.
Once = Callable[[str, Callable[[Path], object]], Path]

# With `-n` files start in this order, and then the others: one that takes a minute must not start last, alone.
LONGEST_FILES = (
    "training/test_pretrain.py",
    "models/test_training_data.py",
    "training/test_kills.py",
    "training/test_replicas.py",
    "serving/test_openapi.py",
    "models/test_gradient_accumulation.py",
    "saved_model/test_classifiers.py",
    "training/test_sop.py",
    "finetuning/test_tokens.py",
    "training/test_workers.py",
    "models/test_tibert_pretraining.py",
    "models/test_encoder_layer.py",
    "serving/test_connections.py",
    "test_startup.py",
    "test_examples.py",
    "hostile/test_files.py",
    "training/test_evaluate.py",
    "training/test_divergence.py",
    "training/test_xla.py",
    "models/test_tibert_token_classifier.py",
    "models/test_tibert_masked_lm.py",
    "training/test_google_run.py",
    "training/test_without_tensorflow.py",
    "training/test_init_checkpoint.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of the files under xdist, and compile little and, for JAX, once in all processes of a session."""
    config.option.loadscopereorder = False
    # As the command line does it.
    gc.set_threshold(100_000)
    # Where TensorFlow looks for the TPUs of a machine of Google's; by its own name it would wait for an answer.
    os.environ["GCE_METADATA_HOST"] = "localhost:1"
    # Compiling takes longer than anything so small runs: without these, three times as long.
    flags = "backend_optimization_level=0", "cpu_use_fusion_emitters=false", "cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *(f"--xla_{flag}" for flag in flags)]).strip()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = tempfile.TemporaryDirectory(prefix="tibert_keras_jax_")
        config.add_cleanup(cache.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave out on JAX what is the same there.

    Within a file, and among the other files, the order stays.
    """
    if os.environ.get("KERAS_BACKEND") == "jax":
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("any_backend")])
        items[:] = [item for item in items if not item.get_closest_marker("any_backend")]
    tests = Path(__file__).parent
    places = {tests / name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """The modules are imported."""
    from tests.support.preloaded import spare_time

    spare_time()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Fills a folder that all workers of the session share: the first to ask fills it, the others wait."""
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, mark = root / name, root / name.replace("/", "_")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{mark}.lock"):
            if not (done := Path(f"{mark}.done")).exists():
                # What a worker that failed has left.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and reference numbers beside the project; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the data beside the project: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def sample_corpus(once: Once) -> Path:
    """A folder of three small text files of made-up documents, ten in each, a section a line."""
    from tibert_keras.corpus.sample import sample_documents

    def write(folder: Path) -> None:
        documents = ["\n".join(document) for document in sample_documents(seed=1, num_documents=30)]
        for index in range(3):
            text = "\n\n".join(documents[index::3]) + "\n"
            (folder / f"train_{index}.txt").write_text(text, encoding="utf-8", newline="\n")

    return once("corpus", write)


@pytest.fixture(scope="session")
def spm_models(sample_corpus: Path, once: Once) -> dict[str, str]:
    """Paths of two SentencePiece models of 400 pieces, `bpe` and `unigram`, trained on the sample corpus."""
    from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

    def train(folder: Path) -> None:
        for recipe, kind in (("olive", "bpe"), ("albert", "unigram")):
            config = TokenizerConfig(
                input_file=f"{sample_corpus}/*.txt", output_dir=str(folder / kind), recipe=recipe, vocab_size=400
            )
            train_tokenizer(config)

    folder = once("tokenizers", train)
    return {kind: str(folder / kind / "spiece.model") for kind in ("bpe", "unigram")}


@pytest.fixture(scope="session")
def build_sample(sample_corpus: Path, spm_models: dict[str, str]) -> Callable[..., None]:
    """Builds records of some files of the sample corpus, 32 tokens with 5 predictions each."""
    from tibert_keras.records.build import build_records
    from tibert_keras.records.config import RecordsConfig

    def build(folder: Path, text: str, **options: Any) -> None:
        build_records(
            RecordsConfig(
                workers=1,
                input_file=f"{sample_corpus}/{text}",
                output_dir=str(folder),
                spm_model_file=spm_models["bpe"],
                max_seq_length=32,
                max_predictions_per_seq=5,
                **options,
            )
        )

    return build


@pytest.fixture(scope="session")
def sample_records(build_sample: Callable[..., None], once: Once) -> Path:
    """A folder with `train/` and `held_out/`: records of the sample corpus, 32 tokens with 5 predictions each."""

    def build(folder: Path) -> None:
        build_sample(folder / "train", "train_[01].txt")
        build_sample(folder / "held_out", "train_2.txt")

    return once("records", build)


@pytest.fixture(scope="session")
def one_layer() -> TibertBackbone:
    """The smallest architecture with one layer in place of two: each takes as long to trace. Tests only read it."""
    from tibert_keras.models.tibert_backbone import TibertBackbone

    return TibertBackbone.from_preset("tibert_nano", vocabulary_size=400, num_layers=1)


@pytest.fixture(scope="session")
def run_config(sample_records: Path, one_layer: TibertBackbone, once: Once) -> Callable[..., PretrainConfig]:
    """Makes the options of a short run on the sample records: 22 steps, more than an epoch, a checkpoint every 5."""
    from tibert_keras.training.config import PretrainConfig

    def write(folder: Path) -> None:
        (folder / "albert_config.json").write_text(json.dumps(one_layer.to_albert_config()))

    architecture = once("one_layer", write) / "albert_config.json"

    def make(output_dir: Path | str, **changes: Any) -> PretrainConfig:
        options = {
            "input_file": f"{sample_records}/train/*.tf_record",
            "output_dir": str(output_dir),
            **({} if "preset" in changes else {"albert_config_file": str(architecture)}),
            "train_batch_size": 32,
            "max_seq_length": 32,
            "max_predictions_per_seq": 5,
            "learning_rate": 0.01,
            "num_train_steps": 22,
            "num_warmup_steps": 4,
            "save_checkpoints_steps": 5,
        }
        return PretrainConfig(**{**options, **changes})

    return make


@pytest.fixture(scope="session")
def finished_run(run_config: Callable[..., PretrainConfig], sample_records: Path, once: Once) -> Path:
    """The folder of a run of `run_config` that was never stopped, with a validation loss. Tests only read it."""
    from tibert_keras.training.pretrain import pretrain

    validation = f"{sample_records}/held_out/*.tf_record"
    return once("runs/finished", lambda folder: pretrain(run_config(folder, validation_file=validation)))


@pytest.fixture(scope="session")
def exported(finished_run: Path, once: Once) -> Path:
    """A folder of versions, with version 1, a SavedModel of the finished run. Tests only read it."""
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("SavedModels are TensorFlow's")
    from tibert_keras.saved_model.export import export_saved_model

    return once("served/tibert", lambda folder: export_saved_model(finished_run, folder / "1", top_k=3))


@pytest.fixture(scope="session")
def small_preset(spm_models: dict[str, str], one_layer: TibertBackbone, once: Once) -> str:
    """The folder of an untrained masked language model of the smallest architecture. Tests only read it."""
    import keras

    from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer

    def save(folder: Path) -> None:
        tokenizer = TibertTokenizer(Path(spm_models["bpe"]).read_bytes())
        preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=32, mask_selection_length=5)
        # Not what a test before has left: a training with the same seed would begin with the same weights.
        keras.utils.set_random_seed(0)
        model = TibertMaskedLM(one_layer.from_config(one_layer.get_config()), preprocessor)
        model.compile()
        model.save_to_preset(str(folder))

    return str(once("presets/small", save))


@pytest.fixture(scope="session")
def two_devices(spm_models: dict[str, str], small_preset: str, once: Once) -> Path:
    """The folder that `tests/support/strings_on_replicas.py` has filled, in a process with two devices."""
    from tests.support import strings_on_replicas
    from tests.support.preloaded import Command

    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"

    def run(folder: Path) -> None:
        words = [strings_on_replicas.__file__, spm_models["bpe"], small_preset, folder]
        job = Command(words, folder, {**os.environ, "XLA_FLAGS": flags})
        assert job.wait() == 0, job.log

    return once("two_devices", run)


@pytest.fixture(scope="session")
def tagger_config(small_preset: str, once: Once) -> Callable[..., FinetuneTokensConfig]:
    """Makes the options of a short fine-tuning of a tagger on made-up words: 2 seeds, 8 epochs."""
    from tests.support.made_up_tags import write_horizontal
    from tibert_keras.finetuning.config import FinetuneTokensConfig

    def write(folder: Path) -> None:
        for seed, (part, count) in enumerate((("train", 240), ("validation", 24), ("test", 24))):
            # A sentence a document: so small a model learns little in so short a time, were they to begin anywhere.
            write_horizontal(folder / f"{part}.txt", seed=seed, num_documents=count, sentences=1)

    tagged = once("tagged", write)
    files = {part: str(tagged / f"{part}.txt") for part in ("train", "validation", "test")}

    def make(output_dir: Path | str, **changes: Any) -> FinetuneTokensConfig:
        options = {
            "input_file": files["train"], "validation_file": files["validation"], "test_file": files["test"],
            "output_dir": str(output_dir), "model": small_preset, "min_tag_count": 1, "learning_rate": 0.01,
            "num_epochs": 8, "train_batch_size": 8, "max_seq_length": 32, "num_seeds": 2,
        }  # fmt: skip
        return FinetuneTokensConfig(**{**options, **changes})

    return make


@pytest.fixture(scope="session")
def tagger_run(tagger_config: Callable[..., FinetuneTokensConfig], once: Once) -> Path:
    """The folder of a fine-tuning of `tagger_config`. Tests only read it."""
    from tibert_keras.finetuning.tokens import finetune_tokens

    return once("taggers/tagger", lambda folder: finetune_tokens(tagger_config(folder)))


@pytest.fixture(scope="session")
def random_preset(spm_models: dict[str, str], once: Once) -> Path:
    """A masked language model with random weights and a tokenizer. Tests only read it."""
    from tests.support.tiny_models import randomize, tiny
    from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer

    def save(folder: Path) -> None:
        preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer(spm_models["bpe"]), sequence_length=16)
        randomize(TibertMaskedLM(tiny(vocabulary_size=400), preprocessor=preprocessor)).save_to_preset(str(folder))

    return once("random/preset", save)


@pytest.fixture
def box(
    random_preset: Path, spm_models: dict[str, str], once: Once, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Puts tiny models under the names of those that come with the package; gives the folder of a name."""
    from tests.support.saved_models import tagger_of
    from tibert_keras.formats.convert import ConvertConfig, convert
    from tibert_keras.models import tibert_presets

    def make(folder: Path) -> None:
        to = {"to": "keras", "output": str(folder / tibert_presets.MASKED_LM), "precision": "float16"}
        convert(ConvertConfig(from_="keras", input=str(random_preset), **to))
        tagger_of(spm_models["bpe"]).save_to_preset(str(folder / tibert_presets.TAGGER))
        (folder / tibert_presets.TAGGER / "CARD.md").write_text("# Card: tibert_small_soas\n")

    folder = once("box", make)
    monkeypatch.setattr(tibert_presets, "PRESETS", folder)
    return lambda name: folder / name


@pytest.fixture(scope="session")
def converted(random_preset: Path, once: Once) -> dict[str, Path]:
    """The same model in each format, by name. Tests only read them."""
    from tibert_keras.formats.convert import ConvertConfig, convert

    def write(folder: Path) -> None:
        for to in ("google", "huggingface"):
            convert(ConvertConfig(from_="keras", input=str(random_preset), to=to, output=str(folder / to)))

    folder = once("converted", write)
    return {"keras": random_preset, "google": folder / "google", "huggingface": folder / "huggingface"}


@pytest.fixture
def own_records(sample_records: Path, tmp_path: Path) -> Records:
    """Records that a test may damage."""
    from tibert_keras.records.pipeline import Records

    shutil.copytree(sample_records / "held_out", tmp_path / "records")
    return Records.find(f"{tmp_path}/records/*.tf_record")


@pytest.fixture(scope="session")
def sop_records(build_sample: Callable[..., None], once: Once) -> str:
    """A pattern of the files of `sample_records/train`, with pairs of segments, half of them swapped."""
    folder = once("sop_records", lambda folder: build_sample(folder, "train_[01].txt", sop=True))
    return f"{folder}/*.tf_record"
