"""What KerasHub knows of presets: the files behind handles, and its own names."""

from pathlib import Path
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.registration import is_handle
from tibert_keras.storage import read_json


def is_downloaded(preset: str) -> bool:
    """Return whether KerasHub downloads a preset: `hf://...`, `kaggle://...`, or a name of its own of an ALBERT."""
    if is_handle(preset):
        return True
    # The options of verbs, which import no Keras, name presets too.
    import keras_nlp

    return preset in keras_nlp.models.AlbertBackbone.presets


def preset_file(preset: str, name: str) -> Path | None:
    """Return the path of a file of a preset, which is downloaded if need be; `None` if the preset lacks it."""
    from keras_hub.src.utils.preset_utils import get_file

    try:
        _reach_hub(preset, name)
        return Path(get_file(preset, name))
    # Any library may be behind a handle, with any error.
    except Exception as error:
        cause = error.__cause__ or error
        # A file may also not be found because the network is down.
        if isinstance(error, FileNotFoundError) and type(cause).__name__ != "LocalEntryNotFoundError":
            return None
        reason = " ".join(str(cause).split())[:200].rstrip(".")
        raise InputError(
            f"The preset cannot be read: {reason}. Received: preset={preset!r}. Check its name and the network."
        ) from error


def _reach_hub(preset: str, name: str) -> None:
    """Fail at once if there is no network: Hugging Face's library would try half a minute for an uncached file."""
    if not preset.startswith("hf://"):
        return
    import huggingface_hub

    repository = preset.removeprefix("hf://")
    if huggingface_hub.try_to_load_from_cache(repository, name) is not None:
        return
    try:
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, name), timeout=10)
    # Its versions use different libraries, and deal with anything else themselves.
    except Exception as error:
        if type(error).__name__ in ("ConnectError", "ConnectionError"):
            raise ConnectionError(f"no connection to the Hub ({error})") from None


def read_preset_file(preset: str, name: str) -> dict[str, Any]:
    """Read a JSON file of a preset; empty if the preset lacks it."""
    path = preset_file(preset, name)
    return {} if path is None else read_json(path, what="a part of a preset", advice="Save it anew.")


def trained_length(preset: str) -> int | None:
    """Return the length of the sequences that a preset was trained on, as far as its positions go, if it tells."""
    length = read_preset_file(preset, "preprocessor.json").get("config", {}).get("sequence_length")
    positions = read_preset_file(preset, "config.json").get("config", {}).get("max_sequence_length")
    return min(length or 128, positions) if positions else length
