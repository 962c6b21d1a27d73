"""Text files to sections: the same for every block size, long lines cut at marks, bytes that are no text."""

import hashlib
import random
import tracemalloc

import pytest

from tibert_keras.errors import InputError
from tibert_keras.records import text_reader as sections
from tibert_keras.records.text_reader import SectionReader

TSHEG = "་"
BAD = b"\xff"


@pytest.fixture
def limits(monkeypatch):
    """Sets the size of blocks in bytes and of the longest section in characters."""

    def set_limits(block, longest=1 << 18):
        monkeypatch.setattr(sections, "_BLOCK_BYTES", block)
        monkeypatch.setattr(SectionReader.__init__, "__kwdefaults__", {"errors": "strict", "longest_section": longest})

    return set_limits


@pytest.fixture
def read(tmp_path):
    """Writes bytes or text to a file and reads its sections."""

    def read_sections(content, **options):
        path = tmp_path / "text.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        read_sections.reader = SectionReader(path, **options)
        return [section for block in read_sections.reader for section in block]

    return read_sections


def without_space(text):
    return "".join(text.split())


def test_a_bad_end_of_a_long_line_does_not_join_documents(limits, read):
    limits(16)
    found = read(b"a" * 40 + b"\xff\n\nsecond\n", errors="skip")
    assert found[-2:] == ["", "second"]
    assert read.reader.skipped_lines == 1


class TestLines:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("a\nb\n", ["a", "b"]),
            ("a\r\nb\r\n\r\nc\r\n", ["a", "b", "", "c"]),
            ("\ufeffa\nb\n", ["a", "b"]),
            ("\ufeff\na\n", ["", "a"]),
            ("a\n\ufeffb\n", ["a", "\ufeffb"]),
            ("a\n\n\nb\n\n", ["a", "", "", "b", ""]),
            ("a\n \t\u00a0\u3000\nb\n", ["a", "", "b"]),
            (" ཀ་ཁ།  །ཀ \n", ["ཀ་ཁ།  །ཀ"]),
            ("\n", [""]),
            ("a\nb", ["a", "b"]),
            # A short last line is whole, whatever marks it has.
            ("ཀ", ["ཀ"]),
            ("abcd", ["abcd"]),
            ("ཀ་ཁ་ག", ["ཀ་ཁ་ག"]),
            ("a\nཀ ཁ ག", ["a", "ཀ ཁ ག"]),
        ],
    )
    def test_content(self, read, limits, content, expected):
        assert read(content) == expected
        limits(32)
        assert read(content) == expected

    def test_the_block_size_does_not_matter(self, read, limits):
        generator = random.Random(0)
        letters = ["a", "ཀ", "ཁྱ", "é", "😀", TSHEG, " ", "། །", "\r"]
        for _ in range(40):
            lines = ["".join(generator.choices(letters, k=generator.choice([0, 0, 1, 5, 20]))) for _ in range(30)]
            for ending in ("", "\n"):
                content = "\n".join(lines) + ending
                expected = [line.strip() for line in content.removesuffix("\n").split("\n")]
                longest = max(len(line.encode()) for line in lines)
                for block in (longest + 1, longest + 2, longest + generator.randrange(100), 1 << 22):
                    limits(block)
                    assert read(content) == expected

    def test_blocks_end_with_a_line(self, tmp_path, limits):
        limits(10)
        (tmp_path / "text.txt").write_text("aaa\nbbb\nccc\nddd\neee\n", encoding="utf-8")
        assert list(SectionReader(tmp_path / "text.txt")) == [["aaa", "bbb"], ["ccc", "ddd", "eee"]]


class TestLongLines:
    def test_cut_after_a_space_or_tsheg(self, read, limits):
        limits(1 << 22, longest=8)
        assert read("aaaa bb cc\nཀཀ་ཁཁ་གགང\n") == ["aaaa bb", "cc", "ཀཀ་ཁཁ་", "གགང"]
        assert read("a" * 20) == ["a" * 8, "a" * 8, "a" * 4]

    def test_nothing_is_lost_and_no_document_ends(self, read, limits):
        generator = random.Random(1)
        for trial in range(200):
            letters = generator.choice([["ཀ", TSHEG], ["ཀ", "😀", "é"], ["a", " "], ["ཀ", TSHEG, " ", "a", "\u3000"]])
            lines = ["".join(generator.choices(letters, k=generator.randrange(1, 300))).strip() for _ in range(4)]
            lines = [line or "ཀ" for line in lines]
            content = generator.choice(["\n", "\r\n"]).join(lines) + generator.choice(["", "\n", "\r\n", "   \n"])
            limits(generator.choice([1, 3, 7, 40, 100]), longest=generator.choice([1, 5, 30]))
            found = read(content)
            assert "" not in found, trial
            assert without_space("".join(found)) == without_space(content)
            assert read.reader.sha256 == hashlib.sha256(content.encode()).hexdigest()

    def test_documents_stay_apart(self, read, limits):
        # Also where the line before the empty one was cut, just before or after its end.
        for length in range(1, 40):
            for block in (8, 9, 16):
                limits(block)
                found = read("ཀ་" * length + "\n\n" + "b" * length + "\n\nc\n")
                assert [bool(section) for section in found].count(False) == 2
                documents = "".join(section or "\n" for section in found).split("\n")
                assert documents == ["ཀ་" * length, "b" * length, "c"]

    def test_cut_at_marks_across_blocks(self, read, limits):
        limits(64)
        found = read("བཀྲ་ཤིས་" * 50 + "\n")
        assert len(found) > 10
        assert all(section.endswith(TSHEG) for section in found)

    @pytest.mark.slow
    def test_memory(self, tmp_path):
        path, syllables = tmp_path / "line.txt", "བཀྲ་ཤིས་བདེ་ལེགས།".encode() * 2000
        digest = hashlib.sha256()
        with path.open("wb") as file:
            while file.tell() < 100_000_000:
                file.write(syllables)
                digest.update(syllables)
        reader = SectionReader(path)
        tracemalloc.start()
        try:
            size = sum(len(section.encode()) for block in reader for section in block)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size == path.stat().st_size
        assert peak < 60_000_000
        assert reader.sha256 == digest.hexdigest()


class TestBytes:
    def content(self, at):
        """200 lines of which one has a byte that is no UTF-8; and where that is."""
        lines = [f"ཀ་{number}".encode() for number in range(200)]
        lines[at] += BAD + b"x"
        content = b"\n".join(lines) + b"\n"
        return content, content.index(BAD)

    @pytest.mark.parametrize("at", [0, 1, 100, 199])
    @pytest.mark.parametrize("block", [16, 64, 1 << 22])
    def test_strict_names_the_byte(self, read, limits, at, block):
        limits(block)
        content, offset = self.content(at)
        with pytest.raises(InputError, match=rf"invalid start byte at byte {offset}\. Received: .*text\.txt.*skip"):
            read(content)

    @pytest.mark.parametrize("at", [0, 1, 100, 199])
    @pytest.mark.parametrize("block", [16, 64, 1 << 22])
    def test_skip_leaves_out_the_line(self, read, limits, at, block):
        limits(block)
        content, _ = self.content(at)
        assert read(content, errors="skip") == [f"ཀ་{number}" for number in range(200) if number != at]
        assert read.reader.skipped_lines == 1
        assert read.reader.sha256 == hashlib.sha256(content).hexdigest()

    def test_skip_ends_no_document(self, read):
        assert read(b"a\n\xff\nb\n\n\xe0\xbd\nc\n\xff", errors="skip") == ["a", "b", "", "c"]
        assert read.reader.skipped_lines == 3

    def test_a_character_without_its_end(self, read):
        with pytest.raises(InputError, match=r"unexpected end of data at byte 5\."):
            read("a\nཀ".encode() + "ཁ".encode()[:2])

    def test_empty_file(self, read):
        with pytest.raises(InputError, match=r"The file is empty\. Received: .*text\.txt"):
            read(b"")

    def test_no_file(self, tmp_path):
        with pytest.raises(InputError, match="Cannot read the file"):
            list(SectionReader(tmp_path / "none.txt"))
