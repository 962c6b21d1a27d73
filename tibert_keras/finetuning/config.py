"""The options of a fine-tuning, and checks that need no Keras."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, TypeVar

from tibert_keras.errors import InputError, check_options
from tibert_keras.finetuning.scores import read_scores
from tibert_keras.integrity import check_unchanged
from tibert_keras.models.tibert_presets import MASKED_LM
from tibert_keras.registration import is_handle
from tibert_keras.runs.folder import CONFIG_FILE, SCORES_FILE, Kind, check_folder, find_preset, read_config
from tibert_keras.storage import absolute, exists, expand_glob, join, read_json, sha256
from tibert_keras.training.config import CHANGEABLE_DEVICE_OPTIONS, DeviceOptions
from tibert_keras.training.workers import refuse_workers

_POSITIVE = [
    "learning_rate", "num_epochs", "train_batch_size", "gradient_accumulation_steps", "eval_batch_size", "num_seeds",
    "max_seq_length", "patience", "lora_rank", "num_tpu_cores",
]  # fmt: skip
_NOT_NEGATIVE = ["seed", "warmup_share", "dropout", "token_dropout"]
# The options that may change when a run is resumed; it keeps its seeds, and trains the missing ones.
_CHANGEABLE = {*CHANGEABLE_DEVICE_OPTIONS, "output_dir", "num_seeds", "compare_with", "eval_batch_size"}
# The options that name the parts of the data.
_PARTS = ("input_file", "validation_file", "test_file")
_ADVICE = "Give the champion of a run."

_Data = TypeVar("_Data")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(DeviceOptions):
    """Fine-tunes a model: the options that tagging and classification have in common.

    Each seed is trained separately, and its best epoch is kept. The same command, given again, goes on after the last
    epoch, and trains the seeds that are missing. It trains on a TPU, all GPUs of the host or, on JAX, all devices.

    Args:
        input_file: Training files: a path, a glob pattern, or several separated by commas.
        output_dir: Folder of the run: options, history, scores, and the best model as a preset in `champion/`.
        model: Folder of a pretrained model (a preset, such as the `champion/` of a run), or of a run with a champion;
            or the name of a model that comes with the package.
        pretrained: Start from the model's weights; `--nopretrained` takes only its architecture and tokenizer, as a
            baseline to compare with.
        validation_file: Files to choose the best epoch on.
        test_file: Files to measure the best epoch on; without them the scores are those of the validation data.
        compare_with: Folders of other fine-tunings on the same data, separated by commas, to show in the table of
            scores too.
        optimizer: `adam`, with gradients clipped to a norm of 1, or as in `tibert pretrain`: `lamb` or `adamw`.
        learning_rate: Peak learning rate, reached at the end of the warm-up; it decays to 0 at the last epoch.
        warmup_share: Share of the steps over which the rate rises from 0.
        num_epochs: Maximum number of epochs.
        patience: Stop after this many epochs without a better score; by default never.
        train_batch_size: Sequences per training step, over all devices.
        gradient_accumulation_steps: Parts that a device's share of a batch is split into, to compute its gradient one
            part after another.
        eval_batch_size: Sequences per step of validation and test.
        max_seq_length: Length of the sequences, including [CLS] and [SEP]; longer texts are cut, into overlapping
            sequences except for training.
        num_seeds: How many times to train, with another order of the data, dropout and initial head each time.
        seed: Seed of the first training; the others follow.
        dropout: Dropout rate before the head.
        token_dropout: Share of the tokens that [MASK] hides in training, others in each epoch, so that the model also
            learns to rely on their neighbours.
        class_weight: Weights of labels in the loss, as a JSON object; others weigh 1.
        freeze_backbone: Train only the head.
        lora_rank: Train only low-rank additions (LoRA) of this rank to the encoder's attention, and the head.
    """

    kind: ClassVar[Kind]
    # Each step is a call of its own.
    steps_per_execution: ClassVar[int] = 1

    input_file: str
    output_dir: str
    model: str = MASKED_LM
    pretrained: bool = True
    validation_file: str | None = None
    test_file: str | None = None
    compare_with: str | None = None
    optimizer: Literal["adam", "lamb", "adamw"] = "adam"
    learning_rate: float = 5e-5
    warmup_share: float = 0.1
    num_epochs: int = 20
    patience: int | None = None
    train_batch_size: int = 32
    gradient_accumulation_steps: int = 1
    eval_batch_size: int = 64
    max_seq_length: int = 128
    num_seeds: int = 1
    seed: int = 12345
    dropout: float = 0.1
    token_dropout: float = 0.0
    class_weight: dict[str, float] | None = None
    freeze_backbone: bool = False
    lora_rank: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freeze_backbone and self.lora_rank is not None:
            raise InputError(
                "LoRA trains additions to the encoder, so the encoder cannot be frozen. Received: "
                f"freeze_backbone=True, lora_rank={self.lora_rank}. Give one of the two."
            )
        if self.train_batch_size % self.gradient_accumulation_steps:
            raise InputError(
                "The parts of a batch must be of equal size. Received: "
                f"train_batch_size={self.train_batch_size}, "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}. Give a divisor."
            )
        check_options(self, positive=_POSITIVE, not_negative=_NOT_NEGATIVE)
        for name in ("warmup_share", "dropout", "token_dropout"):
            if getattr(self, name) >= 1:
                raise InputError(f"{name} must be below 1. Received: {name}={getattr(self, name)}.")

    @property
    def others(self) -> list[str]:
        """The folders to compare with."""
        return [folder.strip() for folder in (self.compare_with or "").split(",") if folder.strip()]


@dataclass(frozen=True, kw_only=True)
class FinetuneTokensConfig(FinetuneConfig):
    """Fine-tunes a tagger, which finds the words of a text and their parts of speech.

    Args:
        split_file: Table that assigns each document of `input_file` to training, validation or test, one per line as
            `name<TAB>train`; replaces `validation_file` and `test_file`.
        universal_tags: Convert the tags of the SOAS corpus to universal ones before words are joined.
        min_tag_count: Replace tags that fewer words of the training data have by UNK.
        shad_spaces: Read the white space of the text, and put it back behind shads where a file has none, so that the
            training data looks like text from elsewhere. By default as the run was begun; true for a new one, false
            for those of older versions.
        dupe_count: How many times to go through the documents, cutting them into sequences in other places each time.
        dupe_offset: Words by which the cuts shift from one pass to the next.
    """

    kind = "finetune tokens"

    split_file: str | None = None
    universal_tags: bool = False
    min_tag_count: int = 100
    shad_spaces: bool | None = None
    dupe_count: int = 1
    dupe_offset: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.split_file is None) == (self.validation_file is None):
            raise InputError(
                "The best epoch is chosen on documents set apart by a split, or on files of their own. Received: "
                f"split_file={self.split_file!r}, validation_file={self.validation_file!r}. Give one of the two."
            )
        if self.split_file is not None and self.test_file is not None:
            raise InputError(
                "The split names the test documents. Received: "
                f"split_file={self.split_file!r}, test_file={self.test_file!r}. Give one of the two."
            )
        check_options(self, positive=["min_tag_count", "dupe_count", "dupe_offset"])

    def as_begun(self) -> Self:
        """Return the options with `shad_spaces`, too, as the run in the output folder has it; a new run has true."""
        if not exists(join(self.output_dir, CONFIG_FILE)):
            return self if self.shad_spaces is not None else replace(self, shad_spaces=True)
        config, begun = super().as_begun(), read_config(self.output_dir).get("shad_spaces")
        # A run of an older version has no such option, which meant false.
        taken = self.shad_spaces is None or not (begun or self.shad_spaces)
        return replace(config, shad_spaces=begun) if taken else config


@dataclass(frozen=True, kw_only=True)
class FinetuneTextConfig(FinetuneConfig):
    """Fine-tunes a classifier of texts.

    Args:
        input_file: UTF-8 files with one `label<TAB>text` per line: a path, a glob pattern, or several separated by
            commas.
        validation_share: Share of the texts, drawn at random, to choose the best epoch on if there is no
            `validation_file`.
    """

    kind = "finetune text"

    validation_share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.validation_share < 1:
            raise InputError(
                f"validation_share must lie between 0 and 1. Received: validation_share={self.validation_share}."
            )


def check_run(config: FinetuneConfig) -> None:
    """Check a run's folder, files, model and the runs to compare with, before any work.

    The folder may hold the same run with as many seeds or fewer. A file must not be in two parts of the data.
    """
    refuse_workers("A fine-tuning runs on one host")
    for folder in config.others:
        read_scores(folder)
    check_folder(config.as_begun(), _CHANGEABLE)
    # The champion may be one of them.
    if exists(join(config.output_dir, f"seed_{config.num_seeds}", SCORES_FILE)):
        raise InputError(
            "The folder holds the scores of more seeds. Received: "
            f"num_seeds={config.num_seeds} for {config.output_dir!r}. Give as many as before, or more."
        )
    part_of: dict[str, str] = {}
    for part in _PARTS:
        pattern = getattr(config, part)
        for path in map(absolute, expand_glob(pattern) if pattern else ()):
            if part_of.setdefault(path, part) != part:
                raise InputError(
                    "A file is in two parts of the data, which must be different texts. "
                    f"Received: {path!r} in {part_of[path]} and in {part}. Take it out of one."
                )
    find_encoder(config)


def find_encoder(config: FinetuneConfig) -> str:
    """Return the folder of the preset that a fine-tuning starts from, if its encoder has enough positions."""
    preset = find_preset(config.model)
    if is_handle(preset):
        # To be downloaded; the model checks its positions itself.
        return preset
    encoder = read_json(join(preset, "config.json"), what="an encoder", advice=_ADVICE)
    # The latter in the folders of transformers.
    sizes = encoder.get("config")
    positions = (isinstance(sizes, dict) and sizes.get("max_sequence_length")) or encoder.get("max_position_embeddings")
    if not isinstance(positions, int):
        raise InputError(f"The encoder does not tell its positions. Received: {preset!r}. {_ADVICE}")
    if config.max_seq_length > positions:
        raise InputError(
            "The sequences are longer than the encoder takes. Received: "
            f"max_seq_length={config.max_seq_length}, and {positions} positions in {preset!r}. Give fewer."
        )
    return preset


def read_unchanged(config: Any, read: Callable[[Any], _Data]) -> tuple[_Data, dict[str, str]]:
    """Read the data of a fine-tuning, and return it with the SHA-256 of each file, including the split.

    A file that changes meanwhile is an `InputError`.
    """
    before, data = _data_hashes(config), read(config)
    check_unchanged(before, _data_hashes(config))
    return data, before


def _data_hashes(config: FinetuneConfig) -> dict[str, str]:
    patterns = filter(None, (getattr(config, name, None) for name in (*_PARTS, "split_file")))
    return {path: sha256(path) for pattern in patterns for path in expand_glob(pattern)}
