"""Breaks the package in one place at a time and runs the tests that should notice.

    python tests/mutations.py                # all mutations
    python tests/mutations.py optimizers     # those of one folder, or by name
    python tests/mutations.py --list

Each mutation is applied to a copy of the checkout, so nothing here changes. Not part of the test suite: all of it
takes about twenty minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Mutation(NamedTuple):
    """A fault.

    Attributes:
        name: What is wrong.
        file: The file in the package.
        old: Code that occurs exactly once in it.
        new: What takes its place.
        tests: Arguments of pytest: where the fault should be noticed.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str

    @property
    def folder(self) -> str:
        return self.file.partition("/")[0].removesuffix(".py")


MUTATIONS = [
    # === corpus ===
    Mutation(
        "the last section is dropped", "corpus/sections.py",
        "    if section:\n        yield section\n    elif opener:", "    if opener:",
        "tests/corpus/test_sections.py",
    ),
    Mutation(
        "all documents are one", "corpus/sections.py",
        "itertools.groupby(sections, bool)", "[(True, filter(None, sections))]",
        "tests/corpus/test_build.py tests/corpus/test_sections.py",
    ),
    Mutation(
        "a span of OpenPecha ends a character early", "corpus/openpecha.py",
        '_offset(span, "end", path) + 1', '_offset(span, "end", path)', "tests/corpus/test_openpecha.py",
    ),
    Mutation(
        "the notes of a TEI file are text", "corpus/tei.py",
        '_LEFT_OUT = {"teiHeader", "note", ', '_LEFT_OUT = {"teiHeader", ', "tests/corpus/test_tei.py",
    ),
    Mutation(
        "the readings of a pair are swapped", "corpus/markup.py",
        'side=0 if reading == "original" else 1', 'side=1 if reading == "original" else 0',
        "tests/corpus/test_markup.py",
    ),
    # === tokenizers ===
    Mutation(
        "padding and unknown pieces swap ids", "tokenizers/training.py",
        "pad_id=0,\n            unk_id=1,", "pad_id=1,\n            unk_id=0,", "tests/tokenizers/test_training.py",
    ),
    Mutation(
        "scores are not rounded", "tokenizers/training.py",
        "piece.score = round(piece.score / _SCORE_STEP) * _SCORE_STEP", "piece.score = piece.score * 1.0",
        "tests/tokenizers/test_training.py tests/formats/test_hugging_face_tokenizer.py",
    ),
    Mutation(
        "sentences are cut short", "tokenizers/training.py",
        "_MAX_SENTENCE_BYTES = 1 << 16", "_MAX_SENTENCE_BYTES = 1 << 10", "tests/tokenizers/test_training.py",
    ),
    Mutation(
        "syllables do not start after special tokens", "tokenizers/sentence_piece.py",
        "self.ends_syllable[token_ids[..., :-1]] | special[..., :-1]", "self.ends_syllable[token_ids[..., :-1]]",
        "tests/tokenizers/test_sentence_piece.py tests/models/test_tibert_tokenizer.py",
    ),
    Mutation(
        "the space before a mask stays", "tokenizers/sentence_piece.py",
        "if (token, after) != self.space_and_mask]", "if (after, token) != self.space_and_mask]",
        "tests/tokenizers/test_sentence_piece.py tests/models/test_tibert_tokenizer.py",
    ),
    Mutation(
        "sampling has no lock", "tokenizers/sentence_piece.py",
        "with _SEED_LOCK, ThreadPoolExecutor(max_workers=1)", "with ThreadPoolExecutor(max_workers=1)",
        "tests/tokenizers/test_sentence_piece.py tests/models/test_tibert_tokenizer.py",
    ),
    # === records ===
    Mutation(
        "fewer tokens become [MASK]", "records/masking.py",
        "replacement[dice < policy.mask_token_rate]", "replacement[dice < policy.mask_token_rate - 0.1]",
        "tests/records/test_masking.py",
    ),
    Mutation(
        "span lengths follow the other law", "records/masking.py",
        "(weights if self.favor_shorter_ngram else weights[::-1])",
        "(weights[::-1] if self.favor_shorter_ngram else weights)", "tests/records/test_masking.py",
    ),
    Mutation(
        "masks stay the same in each epoch", "records/masking.py",
        "advance(first * num_draws)", "advance(0)", "tests/records/test_dynamic_masking.py",
    ),
    Mutation(
        "an integer of 127 takes two bytes", "records/serialization.py",
        "more = rest > 0x7F", "more = rest >= 0x7F", "tests/records/test_serialization.py",
    ),
    Mutation(
        "a bucket is not shuffled", "records/shuffle.py",
        "for number in rng.permutation(len(examples)).tolist()", "for number in range(len(examples))",
        "tests/records/test_shuffle.py",
    ),
    Mutation(
        "the second segment is not counted as such", "records/examples.py",
        "segment_ids[inside] = segment\n", "segment_ids[inside] = 0\n", "tests/records/test_examples.py",
    ),
    Mutation(
        "a text that changes while it is read is taken", "records/one_file.py",
        "    check_unchanged({source: source_sha256}, {source: reader.sha256})\n", "", "tests/records/test_one_file.py",
    ),
    # === tagging ===
    Mutation(
        "a window decides a syllable too many", "tagging/windows.py",
        "last = max(first, start + _half(", "last = max(first, start + 1 + _half(", "tests/tagging/test_windows.py",
    ),
    Mutation(
        "the last syllable of a text is not decided", "tagging/windows.py",
        "yield Window([text for text, _ in held], first, len(held))",
        "yield Window([text for text, _ in held], first, len(held) - 1)", "tests/tagging/test_windows.py",
    ),
    Mutation(
        "a double shad is parted from the letters after it", "tagging/spaces.py",
        "_SINGLE_SHAD_AT_END.search(before) and", "_SHAD_AT_END.search(before) and", "tests/tagging/test_reading.py",
    ),
    Mutation(
        "two rows of the universal tags are swapped", "tagging/preparation.py",
        '"INTJ": "interj",\n    "X": "skt",', '"INTJ": "skt",\n    "X": "interj",', "tests/tagging/test_preparation.py",
    ),
    Mutation(
        "the rarest tag counts as the most frequent", "tagging/metrics.py",
        "key=lambda tag: (-tags[tag], tag)", "key=lambda tag: (tags[tag], tag)",
        "tests/tagging/test_metrics.py",
    ),
    # === optimizers ===
    Mutation(
        "LAMB adapts biases and norms too", "optimizers/lamb.py",
        "if index in self._adapted:", "if True:", "tests/optimizers/test_lamb.py",
    ),
    Mutation(
        "LAMB decays biases and norms too", "optimizers/lamb.py",
        "if self.weight_decay and decays and ", "if self.weight_decay and ", "tests/optimizers/test_lamb.py",
    ),
    Mutation(
        "epsilon goes under the root", "optimizers/lamb.py",
        "m / (ops.sqrt(v) + self.epsilon)", "m / ops.sqrt(v + self.epsilon)", "tests/optimizers/test_lamb.py",
    ),
    Mutation(
        "the warm-up is a step ahead", "optimizers/schedules.py",
        "warmed = (step - self.start_warmup_step)", "warmed = (step + 1 - self.start_warmup_step)",
        "tests/optimizers/test_schedules.py",
    ),
    Mutation(
        "the decay takes a step more", "optimizers/schedules.py",
        "ops.minimum(step / self.decay_steps, 1.0)", "ops.minimum(step / (self.decay_steps + 1), 1.0)",
        "tests/optimizers/test_schedules.py",
    ),
    # === models ===
    Mutation(
        "the parts of a batch weigh too much", "models/gradient_accumulation.py",
        "/ steps)\n        for name, loss in named", ")\n        for name, loss in named",
        "tests/models/test_gradient_accumulation.py -k whole_batch",
    ),
    Mutation(
        "the labels of a head are one too few", "models/tibert_token_classifier.py",
        "len(labels),", "len(labels) - 1,", "tests/models/test_tibert_token_classifier.py",
    ),
    # === runs ===
    Mutation(
        "a resumed history forgets its last row", "runs/history.py",
        'if row["step"] <= step]', 'if row["step"] < step]', "tests/training/test_pretrain.py -k TestStopped",
    ),
    Mutation(
        "the best row has the highest loss", "runs/history.py",
        "return min(rows,", "return max(rows,", "tests/runs",
    ),
    Mutation(
        "the champion has the highest loss", "runs/champion.py",
        "= min(candidates)", "= max(candidates)", "tests/runs/test_champion.py",
    ),
    Mutation(
        "the hash of a file is not checked", "integrity.py",
        '(size(path), sha256(path)) == (entry["bytes"], entry["sha256"])', 'size(path) == entry["bytes"]',
        "tests/test_integrity.py tests/runs/test_checkpoints.py",
    ),
    Mutation(
        "the best checkpoint is removed", "runs/checkpoints.py",
        "if old not in best_steps:", "if True:", "tests/runs/test_checkpoints.py",
    ),
    # === formats ===
    Mutation(
        "a table loses a transposition", "formats/names.py",
        '(column == 2 or kind == "order")', "(column == 2)", "tests/formats/test_google_names.py",
    ),
    Mutation(
        "[CLS] and [SEP] are swapped in transformers' configuration", "formats/hugging_face.py",
        '"bos_token_id": ids[1],\n        "eos_token_id": ids[2],',
        '"bos_token_id": ids[2],\n        "eos_token_id": ids[1],', "tests/formats/test_hugging_face.py",
    ),
    Mutation(
        "the first checkpoint is taken for the last", "formats/google_names.py",
        "max(found, key=_step)", "min(found, key=_step)", "tests/formats/test_google_checkpoint.py",
    ),
    Mutation(
        "values that are not finite are converted", "formats/renaming.py",
        "if count := array.size - np.count_nonzero(np.isfinite(array)):", "if count := 0:",
        "tests/formats/test_renaming.py tests/formats/test_convert_refused.py",
    ),
    # === training ===
    Mutation(
        "a run takes a step too many", "training/run_callbacks.py",
        "is_last = step >= self.config.num_train_steps",
        "is_last = step > self.config.num_train_steps",
        "tests/training/test_run_callbacks.py tests/training/test_pretrain.py -k callbacks or TestFiles",
    ),
    Mutation(
        "the averages of a window begin anew", "training/run_callbacks.py",
        "self.run.checkpoints.restore(self.model, state.step, metrics=True)", "pass",
        "tests/training/test_pretrain.py -k told_to_end",
    ),
    Mutation(
        "a loss that has risen is no divergence", "training/run_callbacks.py",
        "if math.isfinite(loss) and loss <= bound:", "if math.isfinite(loss):", "tests/training/test_divergence.py",
    ),
    Mutation(
        "a restart forgets the best", "training/callbacks.py",
        "if self.best_step == step and monitor in values:", "if monitor in values:",
        "tests/training/test_callbacks.py -k remembers",
    ),
    Mutation(
        "a window begins with its epoch", "training/callbacks.py",
        "return self._count + batches - self._count_of_epoch", "return batches",
        "tests/training/test_callbacks.py -k windows",
    ),
    Mutation(
        "group 0 goes nowhere", "training/init_checkpoint.py",
        '_GROUP.sub("group_0_", path)', "path", "tests/training/test_init_checkpoint.py -k groups",
    ),
    # === finetuning ===
    Mutation(
        "a killed seed is shuffled as from its first epoch", "finetuning/epochs.py",
        "        for _ in self.scores:\n            self.batches.shuffle()\n", "",
        "tests/finetuning/test_tokens.py -k given_again",
    ),
    Mutation(
        "the worst epoch is kept", "finetuning/epochs.py",
        'mode="max", patience', 'mode="min", patience', "tests/finetuning/test_tokens.py",
    ),
    Mutation(
        "all seeds are the same", "finetuning/seeds.py",
        "seed = config.seed + index", "seed = config.seed", "tests/finetuning/test_tokens.py",
    ),
    # === saved_model ===
    Mutation(
        "a text of one token too many is taken", "saved_model/text_module.py",
        "tf.reduce_max(tokens.row_lengths(), axis=0) + 2 <=", "tf.reduce_max(tokens.row_lengths(), axis=0) + 1 <=",
        "tests/saved_model/test_export.py",
    ),
    Mutation(
        "masks that are not there have probabilities", "saved_model/fill_mask.py",
        "tf.where(real, probabilities, 0.0)", "probabilities", "tests/saved_model/test_export.py",
    ),
    Mutation(
        "scales are half as large", "saved_model/precision.py",
        "scale.astype(\"float32\")", "(scale / 2).astype(\"float32\")", "tests/saved_model/test_export.py",
    ),
    # === inference ===
    Mutation(
        "the unlikeliest filling comes first", "inference/gap_search.py",
        "key=lambda candidate: -candidate.score", "key=lambda candidate: candidate.score",
        "tests/inference/test_gap_search.py",
    ),
    Mutation(
        "no tsheg before the next gap", "inference/gaps.py",
        "in (LETTER, SIGN) or GAP.match(after) else", "in (LETTER, SIGN) else",
        "tests/inference/test_gaps.py tests/inference/test_gap_search.py",
    ),
    Mutation(
        "a document does not end a sentence", "inference/segment.py",
        "if not end.after or model.labels", "if model.labels", "tests/inference/test_segment.py",
    ),
    # === cards ===
    Mutation(
        "changed records count as unchanged", "cards/templates/pretraining.md.j2",
        "    false: \"the one that the run read\",\n    true:", "    true: \"the one that the run read\",\n    false:",
        "tests/cards/test_card.py",
    ),
    Mutation(
        "commands list the defaults", "cards/commands.py",
        "options[name] != default}", "options[name] == default}", "tests/cards/test_card.py",
    ),
    # === serving ===
    Mutation(
        "the token is not asked for", "serving/access.py",
        "if self._token is not None and not is_public:", "if False:", "tests/serving/test_access.py",
    ),
    Mutation(
        "answers go to the wrong requests", "serving/batching.py",
        "in zip(batch, answers, strict=True)", "in zip(batch, answers[::-1], strict=True)",
        "tests/serving/test_batching.py",
    ),
    Mutation(
        "the queue has no end", "serving/batching.py",
        "if count > self._max_queue_size or waiting", "if waiting",
        "tests/serving/test_batching.py",
    ),
    # === cli ===
    Mutation(
        "--no turns a switch on", "cli/flags.py",
        "{name.removeprefix('no')}=false", "{name.removeprefix('no')}=true", "tests/cli/test_main.py",
    ),
    Mutation(
        "bad input has the exit status of a bad flag", "cli/main.py",
        "return _complain(verb, str(error), status=1)", "return _complain(verb, str(error), status=2)",
        "tests/cli/test_main.py",
    ),
    # === storage, parallel, tibetan ===
    Mutation(
        "what is written is not synced", "storage.py",
        "            _sync(part)\n", "            part.exists()\n", "tests/test_storage.py",
    ),
    Mutation(
        "the folder is synced before the rename", "storage.py",
        "        temporary.replace(target)\n        _sync(target.parent)\n",
        "        _sync(target.parent)\n        temporary.replace(target)\n", "tests/test_storage.py",
    ),
    Mutation(
        "a remote folder is whole too soon", "storage.py",
        "key=lambda file: file.name == last", "key=lambda file: file.name != last", "tests/test_storage.py",
    ),
    Mutation(
        "an error of a task is lost", "parallel.py",
        "    if errors:\n        raise errors[0]\n", "", "tests/test_parallel.py",
    ),
    Mutation(
        "a disk error in a task stops the others", "parallel.py",
        "elif isinstance(error, (InputError, OSError)):", "elif isinstance(error, InputError):",
        "tests/test_parallel.py",
    ),
    Mutation(
        "the shad of treasure texts is none", "tibetan.py",
        'name.endswith((" SHAD", " GTER TSHEG"))', 'name.endswith(" SHAD")', "tests/test_tibetan.py",
    ),
    Mutation(
        "signs keep their order in a graph", "models/text_in_graph.py",
        "runs * 256 + tf.cast(order, tf.int64)", "runs * 256", "tests/models/test_text_in_graph.py",
    ),
    Mutation(
        "digits count as Tibetan text", "tibetan.py",
        'LETTERS = "\\N{TIBETAN SYLLABLE OM}', 'LETTERS = "0-9\\N{TIBETAN SYLLABLE OM}', "tests/test_tibetan.py",
    ),
]  # fmt: skip


def apply(mutation: Mutation, root: Path) -> None:
    """Apply a mutation to the checkout `root`."""
    path = root / "tibert_keras" / mutation.file
    source = path.read_text(encoding="utf-8")
    if (count := source.count(mutation.old)) != 1:
        raise SystemExit(f"{mutation.name}: {count} times in {mutation.file}: {mutation.old!r}")
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")


def copy_checkout(folder: Path) -> Path:
    """Copy the package and its tests; the rest is linked, and so are the data beside the checkout."""
    copy = folder / "checkout"
    copy.mkdir()
    for entry in ROOT.iterdir():
        if entry.name in ("tibert_keras", "tests"):
            shutil.copytree(entry, copy / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not entry.name.startswith("."):
            (copy / entry.name).symlink_to(entry)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return copy


def arguments(tests: str) -> list[str]:
    """The arguments of pytest; what follows `-k` is one."""
    paths, _, words = tests.partition(" -k ")
    return [*paths.split(), *(["-k", words] if words else [])]


def is_caught(mutation: Mutation) -> tuple[bool, str]:
    """Run the tests against a broken copy; whether one fails, and pytest's last line."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_checkout(Path(folder))
        apply(mutation, copy)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments(mutation.tests)],
            cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutation.name}: pytest ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr}")
    return done.returncode == 1, lines[0].partition(" - ")[0] if lines else ""


def main(wanted: list[str]) -> int:
    chosen = [each for each in MUTATIONS if not wanted or {each.name, each.folder} & set(wanted)]
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_checkout(Path(folder))
        for mutation in chosen:
            source = (copy / "tibert_keras" / mutation.file).read_bytes()
            apply(mutation, copy)
            (copy / "tibert_keras" / mutation.file).write_bytes(source)
    print(f"{len(chosen)} mutations\n")
    survived = 0
    print("| folder | mutation | | first test that fails | s |\n|---|---|---|---|---|", flush=True)
    for mutation in chosen:
        started = time.monotonic()
        caught, test = is_caught(mutation)
        survived += not caught
        verdict = "caught" if caught else "**survived**"
        seconds = time.monotonic() - started
        print(f"| {mutation.folder} | {mutation.name} | {verdict} | {test} | {seconds:.0f} |", flush=True)
    print(f"\n{len(chosen) - survived} of {len(chosen)} caught")
    return 1 if survived else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print(*(f"{each.folder}: {each.name}" for each in MUTATIONS), sep="\n")
    else:
        sys.exit(main(sys.argv[1:]))
