"""Verbs that prepare data: corpus, tokenizer and records."""

from dataclasses import dataclass

from tibert_keras.corpus.build import CorpusConfig, build_corpus
from tibert_keras.errors import InputError
from tibert_keras.records.config import RecordsConfig
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer


def corpus(config: CorpusConfig) -> None:
    """Turn an edition of the canon into text files with one section per line."""
    print(build_corpus(config).summary())


def tokenizer(config: TokenizerConfig) -> None:
    """Train a SentencePiece model on text files."""
    manifest = train_tokenizer(config)
    print(f"{manifest['vocab_size']} pieces ({manifest['model_type']}) in {config.output_dir}/spiece.model")


def records(config: RecordsConfig) -> None:
    """Turn text files into TFRecords of masked examples."""
    from tibert_keras.records.build import build_records

    print(build_records(config).summary())


@dataclass(frozen=True, kw_only=True)
class InspectFlags:
    """Inspects a record file.

    Args:
        file: TFRecord file of masked examples, from `tibert records` or Google's ALBERT.
        spm_model_file: SentencePiece model of the records; by default `spiece.model` beside the file.
        num_examples: Number of examples to print as text, with each masked token as `⟦original→shown⟧` or, if it was
            kept, `⟦original=⟧`.
        plot: PNG file to draw the statistics to.
    """

    file: str
    spm_model_file: str | None = None
    num_examples: int = 3
    plot: str | None = None

    def __post_init__(self) -> None:
        if self.num_examples < 0:
            raise InputError(f"num_examples must not be negative. Received: {self.num_examples}.")


def records_inspect(flags: InspectFlags) -> None:
    """Show statistics of a record file, and some examples as text with their masks marked."""
    from tibert_keras.records.inspection import inspect_records, readable_examples, tokenizer_of_records

    tokenizer = tokenizer_of_records(flags.file, spm_model_file=flags.spm_model_file)
    statistics = inspect_records(flags.file, tokenizer=tokenizer)
    if flags.plot:
        statistics.plot(flags.plot)
    examples = readable_examples(flags.file, tokenizer=tokenizer, count=flags.num_examples)
    print(statistics.summary(), *examples, sep="\n\n")
