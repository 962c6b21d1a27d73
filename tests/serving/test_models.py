"""Versions in folders: new ones are loaded, replaced ones reloaded, and broken ones never served."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.support.running import save
from tibert_keras.errors import InputError
from tibert_keras.saved_model.versions import WARM_UP_FILE, write_warm_up
from tibert_keras.serving.models import ServedModel, load_models
from tibert_keras.serving.protocol import RequestError


def said(model: ServedModel, number: int | None = None) -> int:
    _, version = model.find(number)
    return int(version.loaded.signatures["serving_default"](text=tf.constant(["a"]))["said"][0])


@pytest.fixture
def model(tmp_path) -> ServedModel:
    """Version 1 of a model."""
    save(tmp_path / "model" / "1", 10)
    return load_models([str(tmp_path / "model")], num_versions=1)["model"]


class TestVersions:
    def test_a_new_one_takes_over(self, model, tmp_path):
        _, old = model.find(None)
        save(tmp_path / "model" / "2", 20)
        model.refresh()
        assert list(model.versions) == [2] and said(model) == 20
        with pytest.raises(RequestError, match=r"version 1 of model 'model'. Served: \[2\]") as caught:
            model.find(1)
        assert caught.value.status == 404
        # Requests that hold the old version can finish.
        assert int(old.loaded.signatures["serving_default"](text=tf.constant(["a"]))["said"][0]) == 10

    def test_replaced_in_place(self, model, tmp_path):
        save(tmp_path / "new", 11)
        shutil.rmtree(tmp_path / "model" / "1")
        model.refresh()
        assert said(model) == 10  # the old one, for lack of another
        (tmp_path / "new").rename(tmp_path / "model" / "1")
        model.refresh()
        assert said(model) == 11

    def test_the_same_is_not_loaded_again(self, model):
        (before,) = model.versions.values()
        model.refresh()
        assert list(model.versions.values()) == [before]

    def test_one_that_is_broken_or_not_whole_yet(self, model, tmp_path, caplog):
        save(tmp_path / "new", 20)
        folder = tmp_path / "model" / "2"
        folder.mkdir()
        model.refresh()
        assert not model.failures  # nothing there yet
        shutil.copy(tmp_path / "new" / "saved_model.pb", folder)
        (folder / "saved_model.pb").write_bytes((folder / "saved_model.pb").read_bytes()[:-100])
        for _ in range(2):
            model.refresh()
        assert said(model) == 10 and list(model.failures) == [2]
        assert len([record for record in caplog.records if "cannot be loaded" in record.message]) == 1
        shutil.rmtree(folder)
        (tmp_path / "new").rename(folder)
        model.refresh()
        assert said(model) == 20 and not model.failures

    def test_damaged_in_place(self, model, tmp_path, caplog):
        """The state that was loaded goes on, and the status and the log say so."""
        path = tmp_path / "model" / "1" / "saved_model.pb"
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        for _ in range(3):
            model.refresh()
        assert said(model) == 10 and "cannot be loaded" in model.failures[1]
        path.unlink()
        model.refresh()
        assert said(model) == 10 and "Its files have changed or are gone" in model.failures[1]
        path.write_bytes(whole)
        model.refresh()
        assert said(model) == 10 and not model.failures
        assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == ["ERROR", "ERROR"]

    def test_one_that_failed_and_is_gone(self, model, tmp_path, caplog):
        caplog.set_level("INFO")
        (tmp_path / "model" / "2").mkdir()
        (tmp_path / "model" / "2" / "saved_model.pb").write_bytes(b"?")
        model.refresh()
        assert list(model.failures) == [2] and said(model) == 10
        shutil.rmtree(tmp_path / "model" / "2")
        for _ in range(2):
            model.refresh()
        assert not model.failures and said(model) == 10
        assert caplog.text.count("Version 2 of model is not at fault any more, or is gone") == 1

    @pytest.mark.parametrize(
        ("name", "target"),
        [
            ("saved_model.pb", None),
            ("variables/variables.index", None),
            ("assets.extra/tf_serving_warmup_requests", None),
            ("saved_model.pb", "/dev/zero"),
            ("x", "x"),
        ],
    )
    def test_special_files(self, model, tmp_path, name, target):
        """Whoever opened a pipe would wait for ever."""
        folder = tmp_path / "model" / "2"
        save(folder, 20)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if target is None:
            os.mkfifo(path)
        else:
            path.symlink_to(target)
        for _ in range(2):
            model.refresh()
        assert said(model) == 10 and f"{name} is neither a file nor a folder" in model.failures[2]

    def test_a_folder_that_cannot_be_read(self, model, monkeypatch, caplog):
        def refuse(folder):
            raise PermissionError(13, "Permission denied", folder)

        monkeypatch.setattr("tibert_keras.serving.models.list_versions", refuse)
        for _ in range(3):
            model.refresh()
        assert said(model) == 10 and "Its folder cannot be read: Permission denied" in model.failures[1]
        assert len(caplog.records) == 1

    def test_several_at_a_time(self, tmp_path):
        for number in (1, 2, 10):
            save(tmp_path / "model" / str(number), number)
        (tmp_path / "model" / "notes").mkdir()
        model = load_models([f"m={tmp_path}/model/"], num_versions=2)["m"]
        assert sorted(model.versions) == [2, 10]
        assert (said(model), said(model, 2)) == (10, 2)

    def test_a_saved_model_without_versions(self, tmp_path):
        save(tmp_path / "plain", 5)
        model = load_models([str(tmp_path / "plain")], num_versions=3)["plain"]
        assert list(model.versions) == [1] and said(model) == 5
        save(tmp_path / "new", 6)
        shutil.rmtree(tmp_path / "plain")
        (tmp_path / "new").rename(tmp_path / "plain")
        model.refresh()
        assert said(model) == 6

    def test_metadata(self, model):
        described = model.find(None)[1].signature_def["serving_default"]
        assert described["inputs"]["text"]["dtype"] == "DT_STRING"
        assert described["inputs"]["text"]["tensor_shape"] == {
            "dim": [{"size": "-1", "name": ""}], "unknown_rank": False
        }  # fmt: skip
        assert described["method_name"] == "tensorflow/serving/predict"


class TestRemote:
    """Uses TensorFlow's in-memory file system, which is handled like `gs://`."""

    @pytest.fixture
    def folder(self):
        yield "ram://remote/model"
        tf.io.gfile.rmtree("ram://remote")

    def test_replaced(self, folder):
        save(f"{folder}/1", 10)
        model = load_models([folder], num_versions=1)["model"]
        tf.io.gfile.rmtree(f"{folder}/1")
        save(f"{folder}/1", 11, name="other")
        model.refresh()
        assert list(model.find(None)[1].signatures) == ["other"]

    def test_one_that_was_refused(self, folder, monkeypatch, caplog):
        """It is retried when it has changed, and after a while, in case the network failed."""
        save(f"{folder}/1", 10)
        model = load_models([folder], num_versions=1)["model"]
        save("ram://remote/whole", 20)
        tf.io.gfile.makedirs(f"{folder}/2")
        tf.io.gfile.copy("ram://remote/whole/saved_model.pb", f"{folder}/2/saved_model.pb")
        for _ in range(2):
            model.refresh()
        assert said(model) == 10 and list(model.failures) == [2]
        assert len([record for record in caplog.records if "cannot be loaded" in record.message]) == 1
        # The missing files arrive, and the file that is watched does not change.
        tf.io.gfile.makedirs(f"{folder}/2/variables")
        for name in tf.io.gfile.listdir("ram://remote/whole/variables"):
            tf.io.gfile.copy(f"ram://remote/whole/variables/{name}", f"{folder}/2/variables/{name}")
        model.refresh()
        assert list(model.failures) == [2]
        monkeypatch.setattr("tibert_keras.serving.models._RETRY_SECONDS", 0)
        model.refresh()
        assert said(model) == 20 and not model.failures


class TestWarmUp:
    """The requests in `assets.extra` are answered before the version is served."""

    def counting(self, folder) -> tf.Variable:
        module = tf.Module()
        module.count = tf.Variable(0)
        module.say = tf.function(
            lambda text: {"said": tf.fill(tf.shape(text), module.count.assign_add(tf.size(text)))},
            input_signature=[tf.TensorSpec([None], tf.string, name="text")],
        )
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.say, "other": module.say})

    def test_they_are_answered(self, tmp_path):
        self.counting(tmp_path / "model")
        write_warm_up(tmp_path / "model", ["serving_default", "other"])
        model = load_models([str(tmp_path / "model")], num_versions=1)["model"]
        # Twice 1 and 8 texts, and the one of this call; without such requests, three texts each.
        assert said(model) == 19

    def test_what_cannot_be_answered_is_told(self, tmp_path, caplog):
        self.counting(tmp_path / "model")
        write_warm_up(tmp_path / "model", ["none"])
        model = load_models([str(tmp_path / "model")], num_versions=1)["model"]
        assert said(model) == 7 and "warm-up requests cannot be answered: 'none'" in caplog.text
        (tmp_path / "model" / WARM_UP_FILE).write_bytes(b"torn" * 100)
        model.refresh()
        assert said(model) == 7 and "damaged at example" in caplog.text


class TestForeignModels:
    """The shape of an output does not tell what its first axis is."""

    @pytest.fixture
    def signatures(self, tmp_path):
        module = tf.Module()
        text = tf.TensorSpec([None], tf.string, name="text")
        number = tf.TensorSpec([None, 2], tf.int32, name="number")
        functions = {
            "words": (lambda text: {"words": tf.strings.split(text).values}, text),
            "positive": (lambda number: {"found": tf.boolean_mask(number, number > 0)}, number),
            "lengths": (lambda text: {"length": tf.strings.length(text)}, text),
            "picky": (lambda text: {"number": tf.strings.to_number(text)}, text),
        }
        for name, (function, spec) in functions.items():
            setattr(module, name, tf.function(function, input_signature=[spec]))
        tf.saved_model.save(
            module, str(tmp_path / "model"), signatures={name: getattr(module, name) for name in functions}
        )
        return load_models([str(tmp_path / "model")], num_versions=1)["model"].find(None)[1].signatures

    @pytest.mark.parametrize(
        "name, given, expected",
        [
            ("words", {"text": ["a b", "c", "d e"]}, {"words": [b"a", b"b", b"c", b"d", b"e"]}),
            ("positive", {"number": [[0, 1], [2, 3]]}, {"found": [1, 2, 3]}),
            ("lengths", {"text": ["abc", "d"]}, {"length": [3, 1]}),
            ("picky", {"text": ["1", "2.5"]}, {"number": [1, 2.5]}),
        ],
    )
    def test_answers_are_right(self, signatures, name, given, expected):
        of = signatures[name]
        arrays = {
            key: np.array(value, "int32") if key == "number" else np.array([each.encode() for each in value], object)
            for key, value in given.items()
        }
        tasks = of.items(arrays)
        assert len(tasks) == (2 if name == "lengths" else 1)
        answer = of.join([answer for task in tasks for answer in task.compute([task.payload])])
        assert {key: value.tolist() for key, value in answer.items()} == expected


class TestReplacedWhileLoading:
    """The loaded files may be partly of the old version and partly of the new one."""

    @pytest.fixture
    def replaced(self, monkeypatch, tmp_path):
        """Replaces a version each time it has been loaded."""
        later = []
        load = tf.saved_model.load

        def load_and_replace(folder):
            loaded = load(folder)
            if later:
                shutil.rmtree(folder)
                save(tmp_path / "new", later.pop(0))
                (tmp_path / "new").rename(folder)
            return loaded

        monkeypatch.setattr("tibert_keras.serving.models.tf.saved_model.load", load_and_replace)
        return later

    def test_the_last_one_is_served(self, model, tmp_path, replaced):
        save(tmp_path / "model" / "2", 20)
        replaced += [21]
        model.refresh()
        assert said(model) == 21 and not model.failures
        (before,) = model.versions.values()
        model.refresh()
        assert list(model.versions.values()) == [before]

    def test_one_that_does_not_stand_still(self, model, tmp_path, replaced):
        save(tmp_path / "model" / "2", 20)
        replaced += range(21, 24)
        failures = model.failures
        model.refresh()
        assert said(model) == 10 and "changes while it is being loaded" in model.failures[2]
        # The dictionary itself was not changed.
        assert model.failures is not failures == {}
        model.refresh()
        assert said(model) == 23 and not model.failures


class TestRefused:
    def test_nothing_to_serve(self, tmp_path):
        for folder in (tmp_path, tmp_path / "none"):
            with pytest.raises(InputError, match="Neither a SavedModel nor a folder of versions"):
                load_models([f"m={folder}"], num_versions=1)

    def test_broken(self, tmp_path):
        (tmp_path / "saved_model.pb").write_bytes(b"?")
        with pytest.raises(InputError, match="cannot be loaded"):
            load_models([f"m={tmp_path}"], num_versions=1)

    def test_names(self, model, tmp_path):
        folder = f"{tmp_path}/model"
        with pytest.raises(InputError, match="Two models have the same name. Received: 'model'"):
            load_models([folder, f"model={folder}"], num_versions=1)
        with pytest.raises(InputError, match="cannot have this name. Received: 'a b'"):
            load_models([f"{tmp_path}/a b"], num_versions=1)
