"""Every option of a fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tibert_keras.errors import InputError, check_options
from tibert_keras.runs.folder import Kind

_POSITIVE = [
    "learning_rate", "num_epochs", "train_batch_size", "gradient_accumulation_steps", "eval_batch_size", "num_seeds",
    "max_seq_length", "patience", "lora_rank",
]  # fmt: skip
_NOT_NEGATIVE = ["seed", "warmup_share", "dropout"]


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Fine-tunes a model: the options that tagging and classification have in common.

    Each seed is a training of its own, whose best epoch is kept. Given again, the same command goes on with the seeds
    that are missing.

    Args:
        input_file: Files to learn from: a path, a glob pattern, or several with commas between them.
        output_dir: Folder of the run: options, history, scores, and the best model as a preset in `champion/`.
        model: Folder of a pretrained model (a preset, as `champion/` of a run), or of a run with a champion.
        pretrained: Begin with the model's weights; `--nopretrained` takes its architecture and tokenizer alone, for a
            model to compare with.
        validation_file: Files to choose the epoch by.
        test_file: Files to measure the chosen epoch on; without a test the figures are those of the validation.
        compare_with: Folders of other fine-tunings on the same data, with commas between them, whose scores are to
            stand in the table too.
        learning_rate: Learning rate at the end of the warm-up, the highest; it falls to 0 at the last epoch.
        warmup_share: Share of the steps over which the rate rises from 0.
        num_epochs: The most epochs.
        patience: Epochs without a better score after which a training stops; by default it never does so.
        train_batch_size: Sequences a step.
        gradient_accumulation_steps: Parts, one after another, in which a step computes the gradient of its batch.
        eval_batch_size: Sequences a step of validation and test.
        max_seq_length: Length of the sequences, with [CLS] and [SEP]; longer texts are cut, and overlap where they
            are not for training.
        num_seeds: How many trainings, which differ in the order of the data, dropout and the weights of the head.
        seed: Seed of the first; the others follow.
        dropout: Share of the features that the head does not see in a step of training.
        class_weight: Weights of labels in the loss, as a JSON object; others weigh 1.
        freeze_backbone: Train the head alone.
        lora_rank: Train, of the encoder, only low-rank additions to its attention, of this rank.
        mixed_precision: `float32`, or `mixed_bfloat16` for computing in bfloat16.
        jit_compile: Compile the step with XLA, slower to start and faster to run; `auto` leaves it to Keras. On JAX
            `false` runs it op by op, many times slower.
    """

    kind: ClassVar[Kind]

    input_file: str
    output_dir: str
    model: str
    pretrained: bool = True
    validation_file: str | None = None
    test_file: str | None = None
    compare_with: str | None = None
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
    class_weight: dict[str, float] | None = None
    freeze_backbone: bool = False
    lora_rank: int | None = None
    mixed_precision: Literal["float32", "mixed_bfloat16"] = "float32"
    jit_compile: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_dir", self.output_dir.rstrip("/") or "/")
        if self.freeze_backbone and self.lora_rank is not None:
            raise InputError(
                "LoRA trains additions to the encoder, which cannot be frozen then. Received: "
                f"freeze_backbone=True, lora_rank={self.lora_rank}. Give one of the two."
            )
        if self.jit_compile not in (True, False, "auto"):
            raise InputError(f"jit_compile is true, false or auto. Received: jit_compile={self.jit_compile!r}.")
        if self.train_batch_size % self.gradient_accumulation_steps:
            raise InputError(
                "The parts of a batch are equally large. Received: "
                f"train_batch_size={self.train_batch_size}, "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}. Give a divisor."
            )
        check_options(self, positive=_POSITIVE, not_negative=_NOT_NEGATIVE)
        self._check_shares()

    @property
    def others(self) -> list[str]:
        """The folders to compare with."""
        return [folder.strip() for folder in (self.compare_with or "").split(",") if folder.strip()]

    def weights_of_labels(self) -> dict[str | int, float] | None:
        """The weights of labels as preprocessors take them."""
        return dict(self.class_weight.items()) if self.class_weight else None

    def _check_shares(self) -> None:
        for name in ("warmup_share", "dropout"):
            if getattr(self, name) >= 1:
                raise InputError(f"{name} must be below 1. Received: {name}={getattr(self, name)}.")


@dataclass(frozen=True, kw_only=True)
class FinetuneTokensConfig(FinetuneConfig):
    """Fine-tunes a tagger, which finds the words of a text and their parts of speech.

    Args:
        split_file: Table that says which document of `input_file` is for training, validation or test, a line for
            each as `name<TAB>train`; in place of `validation_file` and `test_file`.
        universal_tags: Turn the tags of the SOAS corpus into universal ones before words are joined.
        min_tag_count: Tags that fewer words of the training have become UNK.
        dupe_count: How many times the documents are walked, cut into sequences in other places each time.
        dupe_offset: Words by which the cuts of a walk lie behind those of the one before.
    """

    kind = "finetune tokens"

    split_file: str | None = None
    universal_tags: bool = False
    min_tag_count: int = 100
    dupe_count: int = 1
    dupe_offset: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.split_file is None) == (self.validation_file is None):
            raise InputError(
                "The epoch is chosen by documents that a split sets apart, or by files of their own. Received: "
                f"split_file={self.split_file!r}, validation_file={self.validation_file!r}. Give one of the two."
            )
        if self.split_file is not None and self.test_file is not None:
            raise InputError(
                "The split names the documents of the test. Received: "
                f"split_file={self.split_file!r}, test_file={self.test_file!r}. Give one of the two."
            )
        for name in ("min_tag_count", "dupe_count", "dupe_offset"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be positive. Received: {name}={getattr(self, name)}.")


@dataclass(frozen=True, kw_only=True)
class FinetuneTextConfig(FinetuneConfig):
    """Fine-tunes a classifier of texts.

    Args:
        input_file: UTF-8 files of `label<TAB>text`, a line a text: a path, a glob pattern, or several with commas
            between them.
        validation_share: Share of the texts, drawn at random, that the epoch is chosen by where there is no
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
