"""The options of a pretraining run, and the checks of them that need neither TensorFlow nor Keras."""

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from tibert_keras.errors import InputError, check_options
from tibert_keras.formats.convert import find_model
from tibert_keras.models.tibert_presets import backbone_presets, find_by_name, list_presets
from tibert_keras.runs.checkpoints import Checkpoints, split_checkpoint
from tibert_keras.runs.folder import CONFIG_FILE, INITIAL_PRESET, Kind, check_folder, read_config
from tibert_keras.storage import exists, expand_glob, join, open_binary

_POSITIVE = [
    "train_batch_size", "eval_batch_size", "max_eval_steps", "num_train_steps", "save_checkpoints_steps",
    "keep_checkpoint_max", "iterations_per_loop", "num_tpu_cores", "learning_rate", "divergence_factor",
    "gradient_accumulation_steps", "poly_power",
]  # fmt: skip
_NOT_NEGATIVE = ["num_warmup_steps", "start_warmup_step", "seed"]


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """The options of all runs for the devices and the precision.

    Args:
        mixed_precision: `float32`, or `mixed_bfloat16` (`bfloat16` for short) to compute in bfloat16; the weights stay
            float32. `auto` takes what is faster here, by a trial of about ten seconds before the first step, which
            also decides a `jit_compile` of `auto`.
        jit_compile: Compile the step with XLA, which is slower to start and faster to run; `auto` leaves it to Keras.
            On JAX, `false` runs it op by op, which is many times slower.
        use_tpu: Train on a TPU, and fail if there is none.
        tpu_name: Name or address of the TPU; `local` on a TPU VM.
        tpu_zone: Google Cloud zone of the TPU, such as `us-central1-a`.
        gcp_project: Google Cloud project of the TPU; by default that of this machine.
        num_tpu_cores: Cores that the TPU is expected to have.
    """

    # After the flags of the run itself.
    shown_last: ClassVar[bool] = True

    mixed_precision: Literal["float32", "mixed_bfloat16", "bfloat16", "auto"] = "float32"
    jit_compile: bool | Literal["auto"] = "auto"
    use_tpu: bool = False
    tpu_name: str | None = None
    tpu_zone: str | None = None
    gcp_project: str | None = None
    num_tpu_cores: int = 8

    if TYPE_CHECKING:
        # A field of all subclasses.
        output_dir: str

    def __post_init__(self) -> None:
        # In `gs://`, `run/` and `run` would be different folders.
        object.__setattr__(self, "output_dir", self.output_dir.rstrip("/") or self.output_dir[:1])
        if self.mixed_precision == "bfloat16":
            object.__setattr__(self, "mixed_precision", "mixed_bfloat16")
        if self.jit_compile not in (True, False, "auto"):
            raise InputError(f"jit_compile is true, false or auto. Received: jit_compile={self.jit_compile!r}.")

    def as_begun(self) -> Self:
        """Return the options with what the run in the output folder chose for a `mixed_precision` of `auto`."""
        if self.mixed_precision != "auto" or not exists(join(self.output_dir, CONFIG_FILE)):
            return self
        begun = {"mixed_precision": "float32", "jit_compile": "auto", **read_config(self.output_dir)}
        chosen = replace(self, mixed_precision=begun["mixed_precision"])
        return replace(chosen, jit_compile=begun["jit_compile"]) if self.jit_compile == "auto" else chosen


# May change when a run is resumed: where it runs, but not its weights.
CHANGEABLE_DEVICE_OPTIONS = {field.name for field in fields(DeviceOptions)} - {"mixed_precision"}


# Options that may change when a run is resumed: where and how it runs and what it keeps, but not its weights.
CHANGEABLE = {
    *CHANGEABLE_DEVICE_OPTIONS, "output_dir", "validation_file", "do_train", "do_eval", "eval_batch_size",
    "max_eval_steps", "keep_checkpoint_max", "divergence_factor", "on_divergence", "iterations_per_loop",
    "gradient_accumulation_steps", "rematerialize",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(DeviceOptions):
    """Pretrains a masked language model. The flags are those of the original script, and mean the same.

    A run that was stopped resumes from its last checkpoint when the same command is given again.

    Args:
        input_file: TFRecord files to train on: a path, a glob pattern, or several with commas between them.
        output_dir: Folder of the run, local or `gs://`: checkpoints, history, TensorBoard's logs and the champion.
        albert_config_file: Google's `albert_config.json`, which describes the architecture. Give it or `preset`.
        preset: Architecture by name: `tibert_nano`, `tibert_tiny`, `tibert_base` or `tibert_large`; or a model as in
            `init_checkpoint`, to begin with its architecture and its weights.
        spm_model_file: The SentencePiece model of the records, with which the champion takes text. The default is the
            one beside the records, where `tibert records` puts it.
        validation_file: Held-out TFRecord files for a validation loss at each checkpoint, by which the champion is then
            chosen.
        init_checkpoint: Begin with the weights of a preset, of a run (its champion), of a checkpoint
            (`RUN/checkpoints/STEP`), of a folder of transformers or of a checkpoint of Google's (`model.ckpt-800000`);
            of a tagger or a text classifier, those of its encoder. Optimizer and schedule begin anew, at step 0.
        init_from_group0: With `init_checkpoint`, give groups of layers that are missing there the weights of group 0.
        continue_from: Continue the training of another run, from its last checkpoint or a certain one
            (`RUN/checkpoints/STEP`), or of Google's code (`model.ckpt-800000`): with its weights, the optimizer's
            moments and the global step.
        sop: Learn the sentence order (SOP) too, from records made with `--sop`.
        do_train: Train. Without it, only the champion of an existing run is chosen.
        do_eval: Evaluate the champion on `validation_file` at the end, for the run's card.
        train_batch_size: Examples in a step, over all replicas.
        gradient_accumulation_steps: Number of parts in which a step computes the gradient of its batch, one after
            another, to save memory. It must divide the batch of each replica.
        eval_batch_size: Examples in a step of validation and evaluation. A validation takes whole batches only.
        max_eval_steps: Maximum number of steps of the validation at a checkpoint.
        max_seq_length: Length of the sequences in the records.
        max_predictions_per_seq: Prediction slots of the sequences in the records.
        optimizer: `lamb`, as in the original; `adamw`, Google's: the same update without the trust ratio; or `muon`,
            which orthogonalises the updates of matrices and learns more from a step, at rates like 0.002.
        dynamic_masking: Draw other masks in each epoch, from the tokens that the records had before masking and with
            their options. The result is the same whether the run was stopped or not.
        neighbour_attention: Begin with heads that attend to a token's neighbours, which a model otherwise takes long to
            discover. Only the initial values differ.
        learning_rate: Learning rate at the end of the warm-up, its maximum.
        poly_power: Power of the polynomial by which the learning rate decays; 1 is linear.
        num_train_steps: Step at which training ends, and at which the learning rate reaches 0.
        num_warmup_steps: Steps over which the learning rate rises from 0.
        start_warmup_step: Step at which the warm-up starts.
        save_checkpoints_steps: Steps from one checkpoint to the next, which are the window of the training loss.
        keep_checkpoint_max: How many of the last checkpoints are kept, besides the best by each criterion.
        divergence_factor: The loss has diverged if that of a window is more than this many times the lowest before it,
            or not finite.
        on_divergence: The action then: `stop`, or `rollback` to the last checkpoint, to continue with the examples
            after the window.
        iterations_per_loop: Steps in one call of the compiled function. The default is many on a TPU, one elsewhere.
        seed: Seed of the initial weights and of the order of the data.
        deterministic: Avoid operations that may give other bits when repeated, as some devices have; slower there.
        rematerialize: Recompute all layers but the small last one in the backward pass instead of keeping their
            activations, which is slower and takes less memory.
        master: Refused unless empty: the address of a session of TensorFlow 1. Give `tpu_name` or `TF_CONFIG`.
        masked_lm_budget: Refused unless 0: the original's masking during training was not published.
            `dynamic_masking` is ours.
    """

    kind: ClassVar[Kind] = "pretrain"

    input_file: str
    output_dir: str
    albert_config_file: str | None = None
    preset: str | None = None
    spm_model_file: str | None = None
    validation_file: str | None = None
    init_checkpoint: str | None = None
    init_from_group0: bool = False
    continue_from: str | None = None
    sop: bool = False
    do_train: bool = True
    do_eval: bool = False
    train_batch_size: int = 1024
    gradient_accumulation_steps: int = 1
    eval_batch_size: int = 64
    max_eval_steps: int = 100
    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    optimizer: Literal["lamb", "adamw", "muon"] = "lamb"
    dynamic_masking: bool = False
    neighbour_attention: bool = False
    learning_rate: float = 0.00176
    poly_power: float = 1.0
    num_train_steps: int = 1_000_000
    num_warmup_steps: int = 3125
    start_warmup_step: int = 0
    save_checkpoints_steps: int = 1000
    keep_checkpoint_max: int = 100
    divergence_factor: float = 2.0
    on_divergence: Literal["stop", "rollback"] = "stop"
    iterations_per_loop: int | None = None
    seed: int = 12345
    deterministic: bool = False
    rematerialize: bool = False
    master: str | None = None
    masked_lm_budget: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("init_checkpoint", "continue_from"):
            # As scripts give it that have none.
            object.__setattr__(self, name, getattr(self, name) or None)
        if (self.albert_config_file is None) == (self.preset is None):
            raise InputError(
                "Exactly one of albert_config_file and preset names the architecture. "
                f"Received: albert_config_file={self.albert_config_file!r}, preset={self.preset!r}."
            )
        if self.do_eval and self.validation_file is None:
            raise InputError("do_eval needs records to evaluate on. Received: validation_file=None.")
        if self.start_warmup_step and self.continue_from is None:
            raise InputError(
                "start_warmup_step is for a run that begins at a later step; before it the rate is 0. "
                f"Received: start_warmup_step={self.start_warmup_step}, continue_from=None."
            )
        check_options(self, positive=_POSITIVE, not_negative=_NOT_NEGATIVE)
        self._check_steps()
        self._check_beginning()
        self._refuse_unsupported()

    @property
    def initial_weights(self) -> str | None:
        """The model of the first weights, `init_checkpoint` or a `preset` that is not a name, if any."""
        return None if self.continue_from is not None else (self.init_checkpoint or self.architecture_from)

    @property
    def architecture_from(self) -> str | None:
        """The model of the architecture, a `preset` that is not a name, if any."""
        return None if self.preset in backbone_presets else self.preset

    def _check_beginning(self) -> None:
        if self.architecture_from is not None and self.init_checkpoint is not None:
            raise InputError(
                "A preset other than a name brings its own weights. "
                f"Received: preset={self.preset!r}, init_checkpoint={self.init_checkpoint!r}. Leave one out."
            )
        if self.init_checkpoint is not None and self.continue_from is not None:
            raise InputError(
                "A run takes weights alone from init_checkpoint, or all from continue_from. Received: "
                f"init_checkpoint={self.init_checkpoint!r}, continue_from={self.continue_from!r}. Give one of the two."
            )
        if self.init_from_group0 and self.initial_weights is None:
            raise InputError(
                "init_from_group0 tells what to take from init_checkpoint. Received: init_checkpoint=None. Give it."
            )
        if self.neighbour_attention and (weights := self.initial_weights or self.continue_from) is not None:
            raise InputError(
                "neighbour_attention is for a model that begins with random weights. Received: "
                f"neighbour_attention=True, and the weights of {weights!r}. Leave it out."
            )

    def _refuse_unsupported(self) -> None:
        if self.masked_lm_budget:
            raise InputError(
                "The original's masking during training was never published. "
                f"Received: masked_lm_budget={self.masked_lm_budget}. Leave it out; dynamic_masking draws masks anew."
            )
        if self.dynamic_masking and self.use_tpu and self.tpu_name not in (None, "local"):
            raise InputError(
                "Masks are drawn in Python, which no TPU reached by network runs. Received: dynamic_masking=True, "
                f"tpu_name={self.tpu_name!r}. Train on the TPU's own machine with tpu_name=local, or leave it out."
            )
        if self.master:
            raise InputError(
                f"TensorFlow 2 has no sessions with a master. Received: master={self.master!r}. Name a TPU with "
                "tpu_name, which also takes grpc://ADDRESS, or the hosts in TF_CONFIG."
            )

    def _check_steps(self) -> None:
        if self.save_checkpoints_steps % self.steps_per_execution or self.num_train_steps % self.steps_per_execution:
            raise InputError(
                "iterations_per_loop must divide save_checkpoints_steps and num_train_steps. "
                f"Received: iterations_per_loop={self.steps_per_execution}, "
                f"save_checkpoints_steps={self.save_checkpoints_steps}, num_train_steps={self.num_train_steps}."
            )

    @property
    def steps_per_execution(self) -> int:
        """The number of steps that run in one call of the compiled function."""
        if self.iterations_per_loop is not None:
            return self.iterations_per_loop
        return math.gcd(self.save_checkpoints_steps, self.num_train_steps) if self.use_tpu else 1


def check_pretraining(config: PretrainConfig) -> None:
    """Check, without TensorFlow or Keras, that the files a run needs exist and its folder is empty or holds the run."""
    expand_glob(config.input_file)
    if config.validation_file is not None:
        expand_glob(config.validation_file)
    check_folder(config.as_begun(), CHANGEABLE)
    if not config.do_train:
        return
    if not exists(join(config.output_dir, INITIAL_PRESET, "task.json")):
        for path in filter(None, (config.albert_config_file, config.spm_model_file)):
            open_binary(path).close()
        if config.init_checkpoint is not None:
            find_model(config.init_checkpoint)
        if config.architecture_from is not None:
            _find_preset(config.architecture_from)
    # Once the run has a checkpoint, it does not need the one that it began with.
    if config.continue_from is not None and not Checkpoints(config.output_dir).steps:
        find_continue_from(config.continue_from)


def _find_preset(preset: str) -> None:
    folder = find_by_name(preset)
    try:
        find_model(folder)
    except InputError as error:
        raise InputError(
            f"The preset is neither a name nor a model. Received: preset={preset!r}. "
            f"Give one of {', '.join(list_presets())}, or a preset, a run or another model."
        ) from error


def find_continue_from(continue_from: str) -> tuple[str, int | None] | None:
    """Find a checkpoint of a run (its folder, or `RUN/checkpoints/STEP`) or of Google's code to begin with.

    Returns the folder of a run and a step, or `None` for its last undamaged checkpoint; `None` for one of Google's.
    """
    path = continue_from.rstrip("/")
    run_dir, step = split_checkpoint(path) or (path, None)
    steps = Checkpoints(run_dir).steps
    if step in steps or (step is None and steps):
        return run_dir, step
    if step is None and exists(f"{path}.index"):
        return None
    raise InputError(
        f"No checkpoint is there. Received: continue_from={continue_from!r}. "
        "Give the folder of a run, RUN/checkpoints/STEP, or a checkpoint of Google's such as model.ckpt-800000."
    )
