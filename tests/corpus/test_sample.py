"""The made-up corpus, and the spelling of its particles."""

import re
from pathlib import Path

import pytest

from tibert_keras.corpus.build import CorpusConfig, build_corpus
from tibert_keras.corpus.sample import add_particle, sample_documents, write_sample
from tibert_keras.corpus.volumes import read_documents
from tibert_keras.errors import InputError

SYLLABLE = re.compile("[\u0f40-\u0fbc]+")


@pytest.mark.parametrize(
    ("particle", "expected"),
    [
        ("genitive", "མིག་གི རང་གི མེད་ཀྱི ལྡན་གྱི འཐོབ་ཀྱི ལམ་གྱི མཐའི འགྱུར་གྱི དཔལ་གྱི གངས་ཀྱི བའི"),
        ("ergative", "མིག་གིས རང་གིས མེད་ཀྱིས ལྡན་གྱིས འཐོབ་ཀྱིས ལམ་གྱིས མཐས འགྱུར་གྱིས དཔལ་གྱིས གངས་ཀྱིས བས"),
        ("terminative", "མིག་ཏུ རང་དུ མེད་དུ ལྡན་དུ འཐོབ་ཏུ ལམ་དུ མཐར འགྱུར་དུ དཔལ་དུ གངས་སུ བར"),
        ("final", "མིག་གོ རང་ངོ མེད་དོ ལྡན་ནོ འཐོབ་བོ ལམ་མོ མཐའོ འགྱུར་རོ དཔལ་ལོ གངས་སོ བའོ"),
        ("continuative", "མིག་སྟེ རང་སྟེ མེད་དེ ལྡན་ཏེ འཐོབ་སྟེ ལམ་སྟེ མཐའ་སྟེ འགྱུར་ཏེ དཔལ་ཏེ གངས་ཏེ བ་སྟེ"),
        ("coordinate", "མིག་ཅིང རང་ཞིང མེད་ཅིང ལྡན་ཞིང འཐོབ་ཅིང ལམ་ཞིང མཐའ་ཞིང འགྱུར་ཞིང དཔལ་ཞིང གངས་ཤིང བ་ཞིང"),
        ("quotative", "མིག་ཅེས རང་ཞེས མེད་ཅེས ལྡན་ཞེས འཐོབ་ཅེས ལམ་ཞེས མཐའ་ཞེས འགྱུར་ཞེས དཔལ་ཞེས གངས་ཞེས བ་ཞེས"),
    ],
)
def test_particles_follow_the_spelling(particle: str, expected: str) -> None:
    words = ["མིག", "རང", "མེད", "ལྡན", "འཐོབ", "ལམ", "མཐའ", "འགྱུར", "དཔལ", "གངས", "བ"]
    assert [add_particle(word, particle) for word in words] == expected.split()


def test_strong_final_particle() -> None:
    words = ("གསོལ", "གྱུར", "བསྟན")
    assert [add_particle(word, "final-strong") for word in words] == [f"{word}་ཏོ" for word in words]


@pytest.mark.parametrize("word", ["ཀ", "རྒྱལ་པོ", "སྐྱེ", "ལ", "ཤཱ"])
def test_open_syllables(word: str) -> None:
    assert add_particle(word, "terminative") == f"{word}ར"


def test_documents_have_the_shape_of_canonical_prose() -> None:
    documents = list(sample_documents(seed=1, num_documents=200))
    assert len(documents) == 200
    assert all(20 <= len(document) <= 60 for document in documents)
    assert all(document[0].startswith("༄༅༅། །") for document in documents)
    sections = [section for document in documents for section in document]
    assert all(section.endswith("།") for section in sections)
    assert not any(re.search("[^\u0f00-\u0fff ]|་་|[^ང]་།|ང།|ངོ།", section.replace("ངོ་།", "")) for section in sections)
    lengths = sorted(len(SYLLABLE.findall(section)) for section in sections)
    assert lengths[len(lengths) // 20] >= 6
    assert lengths[len(lengths) * 19 // 20] <= 15
    syllables = {syllable for section in sections for syllable in SYLLABLE.findall(section)}
    assert 300 <= len(syllables) <= 1000


def test_the_seed_decides() -> None:
    assert list(sample_documents(seed=3, num_documents=20)) == list(sample_documents(seed=3, num_documents=20))
    assert list(sample_documents(seed=3, num_documents=20)) != list(sample_documents(seed=4, num_documents=20))
    assert list(sample_documents(seed=3, num_documents=9)) == list(sample_documents(seed=3, num_documents=20))[:9]


def test_a_written_sample_is_read_back_as_it_was(tmp_path: Path) -> None:
    paths = write_sample(str(tmp_path / "raw"), seed=2, num_documents=21, num_files=4)
    assert [Path(path).name for path in paths] == [f"00{number}_sample.txt" for number in (1, 2, 3, 4)]
    read = [document for path in paths for document in read_documents(path)]
    assert sorted(read) == sorted(sample_documents(seed=2, num_documents=21))
    config = CorpusConfig(
        input_file=f"{tmp_path}/raw/*.txt", output_dir=str(tmp_path / "corpus"), validation_volumes=[4], workers=1
    )
    report = build_corpus(config)
    assert sorted(report.files) == [*(f"train_text{number}.txt" for number in (1, 2, 3)), "validation_text4.txt"]
    assert report.total("documents") == 21
    assert not report.reading.dropped


def test_every_file_needs_a_document(tmp_path: Path) -> None:
    for num_files in (0, 5):
        with pytest.raises(InputError, match=f"num_files={num_files}"):
            write_sample(str(tmp_path), num_documents=4, num_files=num_files)
