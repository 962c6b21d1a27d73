"""Tibetan particles, whose spelling follows the last letter of the word before them."""

from __future__ import annotations

import re

from tibert_keras.tibetan import LETTERS, SUFFIXES, TSHEG

# A consonant that ends a syllable bare, behind its vowel sign, subjoined letter or another consonant, closes it.
_SUFFIX = re.compile(f"(?<=[{LETTERS}])[{SUFFIXES}]$")


def _classes(**spellings: str) -> dict[str, str]:
    return {letter: spelling for letters, spelling in spellings.items() for letter in letters}


# By last letter; "འ" stands for an open syllable too. A spelling that begins with a hyphen joins the syllable.
_SPELLINGS: dict[str, dict[str, str]] = {
    "genitive": _classes(གང="གི", དབས="ཀྱི", ནམརལ="གྱི", འ="-འི"),
    "ergative": _classes(གང="གིས", དབས="ཀྱིས", ནམརལ="གྱིས", འ="-ས"),
    "terminative": _classes(གབ="ཏུ", ངདནམརལ="དུ", ས="སུ", འ="-ར"),
    "final": _classes(ག="གོ", ང="ངོ", ད="དོ", ན="ནོ", བ="བོ", མ="མོ", འ="-འོ", ར="རོ", ལ="ལོ", ས="སོ"),
    # Verbs that once ended in a second suffix ད, as གསོལད, keep its ཏ here.
    "final-strong": _classes(ནརལ="ཏོ"),
    "continuative": _classes(ནརལས="ཏེ", ད="དེ", གངབམའ="སྟེ"),
    "coordinate": _classes(གདབ="ཅིང", ངནམའརལ="ཞིང", ས="ཤིང"),
    "quotative": _classes(གདབ="ཅེས", ངནམའརལས="ཞེས"),
    "concessive": _classes(གདབས="ཀྱང", ངནམརལའ="ཡང"),
    "indefinite": _classes(གདབ="ཅིག", ངནམའརལ="ཞིག", ས="ཤིག"),
}


def last_letter(word: str) -> str:
    """The letter that decides how a particle behind `word` is spelt; "འ" if its last syllable is open.

    Example:
        >>> last_letter("བཅོམ་ལྡན་འདས"), last_letter("སྟོན་པ"), last_letter("དགའ")
        ('ས', 'འ', 'འ')
    """
    match = _SUFFIX.search(word.rstrip(TSHEG).rpartition(TSHEG)[2])
    return match[0] if match else "འ"


def add_particle(word: str, particle: str) -> str:
    """Put a particle behind a word.

    Args:
        word: A word without a tsheg at its end.
        particle: "genitive", "ergative", "terminative", "final", "final-strong", "continuative", "coordinate",
            "quotative", "concessive" or "indefinite".

    Returns:
        The word with the particle, in a syllable of its own or joined to the last one.

    Example:
        >>> add_particle("རྒྱལ་པོ", "genitive"), add_particle("མིག", "genitive"), add_particle("དགའ", "final")
        ('རྒྱལ་པོའི', 'མིག་གི', 'དགའོ')
    """
    spelling = _SPELLINGS[particle][last_letter(word)]
    if spelling.startswith("-"):
        return word.removesuffix("འ") + spelling[1:]
    return f"{word}{TSHEG}{spelling}"
