"""The options of a conversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tibert_keras.errors import InputError

Format = Literal["google", "huggingface", "keras"]


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Converts a model.

    Args:
        from_: Format of the input: `google` (TensorFlow 1 checkpoints of Google's ALBERT), `huggingface` (folders of
            transformers) or `keras` (presets and runs of this package).
        input: What to convert. `google`: a folder with albert_config.json and model.ckpt-N, or the path up to
            `model.ckpt-N`. `huggingface`: a folder with config.json and model.safetensors or pytorch_model.bin (which
            needs torch), whole or in parts with their index.
            `keras`: a preset; a run, for its champion; or RUN/checkpoints/STEP, with the state of its training.
        to: Format of the output.
        output: A new or empty folder. With `google` weights, moments and step go to `model.ckpt-N`.
        albert_config_file: Configuration of a Google checkpoint, with `check` on either side; by default the one in
            its folder.
        spm_model_file: SentencePiece model of a foreign input; by default the only `.model` file beside a Google
            checkpoint, or the `spiece.model` of a folder of transformers.
        precision: How a preset stores its weights: `float32`, or `float16` for half the size. It loads as float32
            either way; the differences are then those of rounding.
        check: Write nothing; compare an input and an output that both exist.

    Raises:
        InputError: If there is no such format, or an option belongs to another format.

    Example:
    ```python
    config = ConvertConfig(from_="keras", input="run", to="huggingface", output="for_transformers")
    ```
    """

    from_: Format
    input: str
    to: Format
    output: str
    albert_config_file: str | None = None
    spm_model_file: str | None = None
    precision: Literal["float32", "float16"] = "float32"
    check: bool = False

    def __post_init__(self) -> None:
        for name, value in (("from", self.from_), ("to", self.to)):
            if value not in (formats := get_args(Format)):
                raise InputError(f"No such format. Received: {name}={value!r}. Give one of {', '.join(formats)}.")
        if self.precision != "float32" and self.to != "keras":
            raise InputError(
                "Only a preset stores its weights in another precision. "
                f"Received: precision={self.precision!r}, to={self.to!r}. Leave precision out."
            )
        # With `check`, the configuration may belong to either side.
        configured = (self.from_, self.to) if self.check else (self.from_,)
        if (self.albert_config_file and "google" not in configured) or (self.spm_model_file and self.from_ == "keras"):
            raise InputError(
                "albert_config_file goes with a checkpoint of Google's, spm_model_file with a foreign model. Received: "
                f"from={self.from_!r}, to={self.to!r}, albert_config_file={self.albert_config_file!r}, "
                f"spm_model_file={self.spm_model_file!r}. Leave them out."
            )
