"""Generate a small sample corpus, for the quickstart and for tests.

The documents are grammatical classical Tibetan in the style of a sutra: each has one teacher, audience, place and
topic, lists have their fixed order, particles agree with the spelling and verbs with the rank of the subject. The
prose is formulaic enough for a very small masked language model to learn to fill its gaps in a few minutes.
"""

import random
from collections.abc import Iterator

from tibert_keras.corpus import sample_words as words
from tibert_keras.corpus.sample_words import add_particle
from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output
from tibert_keras.tibetan import SHAD, TSHEG

_OPENER = f"\u0f04\u0f05\u0f05{SHAD} {SHAD}"
_MAX_SECTIONS = 60

# A line is a section: words, `+particle`, whose spelling depends on the word before it, and `{name}` from the cast.
_TITLE = "{topic} {count} བསྟན་པ་ +genitive མདོ"
_OPENING = """
སངས་རྒྱས་དང་བྱང་ཆུབ་སེམས་དཔའ་ཐམས་ཅད་ལ་ཕྱག་འཚལ +final
འདི་སྐད་བདག་གིས་ཐོས་པ་དུས་གཅིག་ན
{teacher} {place} +genitive {spot} ན
{audience} {crowd} དང་ཐབས་གཅིག་ཏུ་བཞུགས +final
"""
_QUESTION = """
དེ་ནས་ {rank} {asker} སྟན་ལས་ལངས +continuative
{teacher} +genitive ཞབས་ལ་མགོ་བོས་ཕྱག་འཚལ་ནས
{teacher} ལ་འདི་སྐད་ཅེས་གསོལ +final-strong
{teacher} ལགས {topic} +quotative བགྱི་བ་དེ་གང་ལགས
{being} +ergative {topic} +terminative ཇི་ལྟར་བསླབ་པར་བགྱི
དེ་སྐད་ཅེས་གསོལ་པ་དང
{teacher} +ergative {rank} {asker} ལ་བཀའ་སྩལ +final-strong
{asker} དེའི་ཕྱིར་ལེགས་པར་ཉོན་ཅིག་དང་ངས་བཤད་པར་བྱ +final
"""
_LIST_HEAD = "{asker} {topic} ནི་ {count} པོ་འདི་དག་ཡིན་ཏེ་གང་ཞེ་ན"
_LIST_ITEM = "{ordinal} ནི་ {item} +genitive {topic} ཡིན +final"
_LIST_END = "{asker} དེ་དག་ནི་ {topic} {count} ཞེས་བྱ +final"
_ITEM_FRAMES = """
{asker} {item} ནི་ {simile} དང་འདྲ +continuative
{simile} +ergative {object} {act} +genitive ཕྱིར +final
|
{being} གང་ {item} ལ་གནས་པ་དེ་ནི
{fruit} འཐོབ +coordinate {bane} ལས་གྲོལ་བར་འགྱུར +final
|
གང་ {item} མི་ཤེས་པ་དེ་ནི་ {bane} ལ་གནས་པ +final
གང་ {item} ཤེས་པ་དེ་ནི་ {fruit} ལ་གནས་པ +final
|
{item} སྟོང +coordinate {item} ལ་བདག་མེད +continuative
{item} ལ་བདག་མེད་པར་ {being} +ergative ཤེས་པར་བྱ +final
|
{teacher} +ergative {item} མཁྱེན +coordinate {item} གཟིགས +final
{being} +ergative {item} ཤེས +coordinate {item} མཐོང +final
"""
_TALE_HEAD = """
{asker} སྔོན་བྱུང་བ་འདས་པའི་དུས་ན
{place} ན་རྒྱལ་པོ་ {king} +quotative བྱ་བ་ཞིག་བྱུང +final
རྒྱལ་པོ་ {king} དེ་ལ་བུ་གསུམ་ཡོད་པར་གྱུར +final-strong
"""
_TALE_SON = """
བུ་ {ordinal} ནི་ {son} +quotative བྱ་བ་ཡིན +final
{son} +ergative {audience} ལ་ {gift} ཕུལ +continuative
{gift} ཕུལ་བས་ {fruit} ཐོབ་པར་གྱུར +final-strong
"""
_TALE_END = """
རྒྱལ་པོ་ {king} +ergative དེ་མཐོང་ནས་དགའ་བ་སྐྱེས +final
{king} +ergative བུ་གསུམ་ལ་འདི་སྐད་ཅེས་སྨྲས +final
བུ་ཁྱེད་ཀྱིས་ {gift} ཕུལ་བ་ལེགས་སོ་ལེགས +final
{asker} དེའི་ཚེ་རྒྱལ་པོ་ {king} གཞན་ཡིན་པར་མ་སེམས་ཤིག་དང
དེའི་ཚེ་རྒྱལ་པོ་ {king} ནི་ང་ཉིད་ཡིན +final
"""
_CLOSING = """
{teacher} +ergative དེ་སྐད་ཅེས་བཀའ་སྩལ་ནས
{rank} {asker} དང་ {audience} {crowd} ཡི་རངས +continuative
{teacher} +ergative གསུངས་པ་ལ་མངོན་པར་དགའ +final
{topic} {count} བསྟན་པ་ +genitive མདོ་རྫོགས +final
"""

_Cast = dict[str, str]


def sample_documents(*, seed: int = 1, num_documents: int = 400) -> Iterator[list[str]]:
    """Generate documents. The same seed gives the same documents.

    Yields:
        Documents: lists of 20 to 60 sections, most of them of 6 to 15 syllables.

    Example:
        >>> document = next(sample_documents(seed=1))
        >>> document[0].startswith("༄༅༅། །"), 20 <= len(document) <= 60
        (True, True)
    """
    rng = random.Random(seed)
    for _ in range(num_documents):
        yield _punctuate(_compose(rng))


def write_sample(output_dir: str, *, seed: int = 1, num_documents: int = 400, num_files: int = 8) -> list[str]:
    """Write generated documents as plain text volumes `001_sample.txt`, ... for `build_corpus`."""
    if not 1 <= num_files <= num_documents:
        raise InputError(
            f"Every file needs a document. Received: num_files={num_files}, num_documents={num_documents}. "
            "Ask for fewer files, at least 1."
        )
    documents = ["\n".join(document) for document in sample_documents(seed=seed, num_documents=num_documents)]
    paths = [f"{output_dir.rstrip('/')}/{number:03}_sample.txt" for number in range(1, num_files + 1)]
    for index, path in enumerate(paths):
        with atomic_output(path) as temporary:
            temporary.write_text("\n\n".join(documents[index::num_files]) + "\n", encoding="utf-8", newline="\n")
    return paths


def _compose(rng: random.Random) -> list[str]:
    cast, items = _cast(rng)
    sections = _fill(_TITLE, cast) + _fill(_OPENING, cast) + _fill(_QUESTION, cast) + _fill(_LIST_HEAD, cast)
    for ordinal, item in zip(words.ORDINALS, items, strict=False):
        sections += _fill(_LIST_ITEM, cast | {"ordinal": ordinal, "item": item})
    sections += _fill(_LIST_END, cast)
    closing = _fill(_CLOSING, cast)
    tale = _tale(rng, cast) if rng.random() < 0.5 else []
    frames = _ITEM_FRAMES.split("|")
    # Apply one frame after the other to the whole list, until the document is long enough.
    for frame in rng.sample(frames, len(frames)):
        for item in items:
            block = _fill(frame, cast | _liken(item))
            if len(sections) + len(block) + len(tale) + len(closing) <= _MAX_SECTIONS:
                sections += block
        if len(sections) > _MAX_SECTIONS // 2:
            break
    return sections + tale + closing


def _cast(rng: random.Random) -> tuple[_Cast, tuple[str, ...]]:
    topic, items = rng.choice(list(words.TOPICS.items()))
    asker, rank = rng.choice(list(words.ASKERS.items()))
    place, spot = rng.choice(list(words.PLACES.items()))
    fruit, bane = rng.choice(list(words.FRUITS.items()))
    cast = {
        "topic": topic,
        "count": words.NUMERALS[len(items) - 1],
        "teacher": rng.choice(words.TEACHERS),
        "asker": asker,
        "rank": rank,
        "place": place,
        "spot": spot,
        "audience": rng.choice(words.AUDIENCES),
        "crowd": rng.choice(words.CROWDS),
        "being": rng.choice(words.BEINGS),
        "fruit": fruit,
        "bane": bane,
        "king": rng.choice(words.KINGS),
    }
    return cast, items


def _liken(item: str) -> _Cast:
    # The same item always has the same simile, whatever the seed.
    known = sorted({each for items in words.TOPICS.values() for each in items})
    simile, target, act = words.SIMILES[known.index(item) % len(words.SIMILES)]
    return {"item": item, "simile": simile, "object": target, "act": act}


def _tale(rng: random.Random, cast: _Cast) -> list[str]:
    sections = _fill(_TALE_HEAD, cast)
    gift = rng.choice(words.GIFTS)
    for ordinal, son in zip(words.ORDINALS, rng.sample(words.SONS, 3), strict=False):
        sections += _fill(_TALE_SON, cast | {"ordinal": ordinal, "son": son, "gift": gift})
    return sections + _fill(_TALE_END, cast | {"gift": gift})


def _fill(template: str, cast: _Cast) -> list[str]:
    """Fill a template, and return its sections with tshegs but no other punctuation."""
    sections = []
    for line in template.strip().splitlines():
        section = ""
        for token in line.split():
            if token.startswith("+"):
                section = add_particle(section.rstrip(TSHEG), token[1:])
            else:
                section += TSHEG * bool(section and not section.endswith(TSHEG)) + token.format_map(cast)
        sections.append(section)
    return sections


def _punctuate(sections: list[str]) -> list[str]:
    """Add shads: a sentence ends with the double shad `། །`, whose second half starts the next section."""
    document, opener = [], _OPENER
    for section in sections:
        # A tsheg separates ང or ངོ from a shad, as with it they look like another letter.
        document.append(f"{opener}{section}{TSHEG * section.endswith(('ང', 'ངོ'))}{SHAD}")
        opener = SHAD if section.endswith("\u0f7c") else ""
    return document
