"""The vocabulary of the sample corpus, and the particles, whose spelling depends on the word before them."""

import re

from tibert_keras.tibetan import LETTERS, SUFFIXES, TSHEG

TEACHERS = (
    "བཅོམ་ལྡན་འདས",
    "སངས་རྒྱས",
    "དེ་བཞིན་གཤེགས་པ",
    "ཐུབ་པ་ཆེན་པོ",
    "འཇིག་རྟེན་མགོན་པོ",
    "བདེ་བར་གཤེགས་པ",
)

# Who asks the question, and his title.
ASKERS = {
    "ཀུན་དགའ་བོ": "ཚེ་དང་ལྡན་པ",
    "ཤཱ་རིའི་བུ": "ཚེ་དང་ལྡན་པ",
    "རབ་འབྱོར": "ཚེ་དང་ལྡན་པ",
    "འོད་སྲུང": "ཚེ་དང་ལྡན་པ",
    "མ་འགགས་པ": "ཚེ་དང་ལྡན་པ",
    "བྱམས་པ": "བྱང་ཆུབ་སེམས་དཔའ",
    "འཇམ་དཔལ": "བྱང་ཆུབ་སེམས་དཔའ",
    "ཀུན་ཏུ་བཟང་པོ": "བྱང་ཆུབ་སེམས་དཔའ",
    "བརྒྱ་བྱིན": "ལྷའི་དབང་པོ",
    "ཚངས་པ": "ལྷའི་དབང་པོ",
}

# A town, and the place nearby where teachers stay.
PLACES = {
    "མཉན་ཡོད": "རྒྱལ་བྱེད་ཀྱི་ཚལ",
    "རྒྱལ་པོའི་ཁབ": "འོད་མའི་ཚལ",
    "ཡངས་པ་ཅན": "སྤྲེའུའི་རྫིང་གི་འགྲམ",
    "སེར་སྐྱ": "ཀུན་དགའི་ར་བ",
    "ལྕང་ལོ་ཅན": "ནོར་བུའི་ཕོ་བྲང",
    "དགའ་ལྡན": "ཆོས་ཀྱི་ཁང་བཟང",
    "གངས་ཅན": "རི་བོའི་ཕུག",
    "རྒྱ་མཚོའི་གླིང": "རིན་པོ་ཆེའི་ངོགས",
}

AUDIENCES = (
    "དགེ་སློང",
    "དགེ་སློང་མ",
    "བྱང་ཆུབ་སེམས་དཔའ",
    "དགེ་བསྙེན",
    "ལྷའི་བུ",
    "ཀླུའི་རྒྱལ་པོ",
    "དྲང་སྲོང",
    "བྲམ་ཟེ",
)

CROWDS = ("བརྒྱ", "ལྔ་བརྒྱ", "སྟོང", "ཉིས་སྟོང", "ཁྲི", "འབུམ")

NUMERALS = ("གཅིག", "གཉིས", "གསུམ", "བཞི", "ལྔ", "དྲུག", "བདུན", "བརྒྱད", "དགུ", "བཅུ", "བཅུ་གཅིག", "བཅུ་གཉིས")
ORDINALS = ("དང་པོ", *(f"{numeral}་པ" for numeral in NUMERALS[1:]))

# A topic is a list that every learner knew by heart, in its order.
TOPICS = {
    "ཕ་རོལ་ཏུ་ཕྱིན་པ": ("སྦྱིན་པ", "ཚུལ་ཁྲིམས", "བཟོད་པ", "བརྩོན་འགྲུས", "བསམ་གཏན", "ཤེས་རབ"),
    "ཕུང་པོ": ("གཟུགས", "ཚོར་བ", "འདུ་ཤེས", "འདུ་བྱེད", "རྣམ་པར་ཤེས་པ"),
    "བདེན་པ": ("སྡུག་བསྔལ", "ཀུན་འབྱུང", "འགོག་པ", "ལམ"),
    "ཚད་མེད་པ": ("བྱམས་པ", "སྙིང་རྗེ", "དགའ་བ", "བཏང་སྙོམས"),
    "དབང་པོ": ("མིག", "རྣ་བ", "སྣ", "ལྕེ", "ལུས", "ཡིད"),
    "ཡུལ": ("གཟུགས", "སྒྲ", "དྲི", "རོ", "རེག་བྱ", "ཆོས"),
    "འབྱུང་བ": ("ས", "ཆུ", "མེ", "རླུང", "ནམ་མཁའ"),
    "ནོར": ("དད་པ", "ཚུལ་ཁྲིམས", "ངོ་ཚ", "ཁྲེལ་ཡོད", "ཐོས་པ", "གཏོང་བ", "ཤེས་རབ"),
    "སྟོབས": ("དད་པ", "བརྩོན་འགྲུས", "དྲན་པ", "ཏིང་ངེ་འཛིན", "ཤེས་རབ"),
    "དཀོན་མཆོག": ("སངས་རྒྱས", "ཆོས", "དགེ་འདུན"),
    "དུག": ("འདོད་ཆགས", "ཞེ་སྡང", "གཏི་མུག"),
    "སྒོ": ("ལུས", "ངག", "ཡིད"),
    "ཡན་ལག": ("ལྟ་བ", "རྟོག་པ", "ངག", "ལས", "འཚོ་བ", "རྩོལ་བ", "དྲན་པ", "ཏིང་ངེ་འཛིན"),
    "རྟེན་འབྲེལ": (
        "མ་རིག་པ",
        "འདུ་བྱེད",
        "རྣམ་པར་ཤེས་པ",
        "མིང་གཟུགས",
        "སྐྱེ་མཆེད",
        "རེག་པ",
        "ཚོར་བ",
        "སྲེད་པ",
        "ལེན་པ",
        "སྲིད་པ",
        "སྐྱེ་བ",
        "རྒ་ཤི",
    ),
    "ཤེས་རབ": ("ཐོས་པ", "བསམ་པ", "སྒོམ་པ"),
}

# A simile: the likeness, its object, and what it does to the object.
SIMILES = (
    ("སྒྲོན་མ", "མུན་པ", "སེལ་བ"),
    ("སྨན", "ནད", "འཇོམས་པ"),
    ("གྲུ", "འགྲོ་བ", "སྒྲོལ་བ"),
    ("ཆར", "ས་གཞི", "རློན་པ"),
    ("མེ་ལོང", "བཞིན", "སྟོན་པ"),
    ("རྡོ་རྗེ", "བྲག", "འབིགས་པ"),
    ("ཉི་མ", "པདྨ", "འབྱེད་པ"),
    ("ཟླ་བ", "ཚ་གདུང", "སེལ་བ"),
    ("མེ", "བུད་ཤིང", "སྲེག་པ"),
    ("ཆུ", "དྲི་མ", "འཁྲུ་བ"),
    ("མ", "བུ", "སྐྱོང་བ"),
    ("རལ་གྲི", "འཁྲི་ཤིང", "གཅོད་པ"),
    ("ནོར་བུ", "དགོས་འདོད", "སྟེར་བ"),
    ("རྟ", "མི", "སྐྱེལ་བ"),
    ("སེང་གེ", "རི་དྭགས", "འཛིན་པ"),
    ("རྒྱ་མཚོ", "ཆུ་བོ", "སྡུད་པ"),
    ("རྒྱ", "བྱ", "འཆིང་བ"),
    ("ལྕགས་ཀྱུ", "གླང་པོ", "འདུལ་བ"),
)

BEINGS = ("རིགས་ཀྱི་བུ", "རིགས་ཀྱི་བུ་མོ", "མཁས་པ", "གང་ཟག", "སེམས་ཅན", "ཉན་ཐོས")

# The fruit of practice, and its opposite.
FRUITS = {
    "བྱང་ཆུབ": "འཁོར་བ",
    "མཐོ་རིས": "ངན་སོང",
    "ཐར་པ": "བཅིངས་པ",
    "བདེ་བ": "སྡུག་བསྔལ",
    "ཞི་བ": "འཇིགས་པ",
    "འཆི་མེད": "འཆི་བ",
}

KINGS = ("གསལ་རྒྱལ", "གཟུགས་ཅན་སྙིང་པོ", "ཆོས་འཕེལ", "མེ་འོད", "ནོར་བཟང", "འཕགས་སྐྱེས", "མཐའ་ཡས", "ཟླ་གྲགས")
SONS = ("ཉི་མའི་འོད", "དཔལ་གྱི་སྡེ", "ནོར་གྱི་བློ", "བློ་གྲོས་རྒྱལ་མཚན", "སེམས་བརྟན", "དགེ་བའི་གོ་ཆ")
GIFTS = ("གསེར", "དངུལ", "མུ་ཏིག", "བཻ་ཌཱུརྱ", "གོས", "གླང་པོ", "ཁང་བཟང", "མེ་ཏོག")


# === Particles ===

# The consonant that closes a syllable: it stands last, after a vowel sign, a subjoined letter or another consonant.
_SUFFIX = re.compile(f"(?<=[{LETTERS}])[{SUFFIXES}]$")


def _classes(**spellings: str) -> dict[str, str]:
    return {letter: spelling for letters, spelling in spellings.items() for letter in letters}


# The spellings of each particle by the last letter of the word before it, "འ" for an open syllable too. A spelling
# that begins with a hyphen joins the syllable.
_SPELLINGS: dict[str, dict[str, str]] = {
    "genitive": _classes(གང="གི", དབས="ཀྱི", ནམརལ="གྱི", འ="-འི"),
    "ergative": _classes(གང="གིས", དབས="ཀྱིས", ནམརལ="གྱིས", འ="-ས"),
    "terminative": _classes(གབ="ཏུ", ངདནམརལ="དུ", ས="སུ", འ="-ར"),
    "final": _classes(ག="གོ", ང="ངོ", ད="དོ", ན="ནོ", བ="བོ", མ="མོ", འ="-འོ", ར="རོ", ལ="ལོ", ས="སོ"),
    # Verbs that once had a second suffix ད, such as གསོལད, keep its ཏ here.
    "final-strong": _classes(ནརལ="ཏོ"),
    "continuative": _classes(ནརལས="ཏེ", ད="དེ", གངབམའ="སྟེ"),
    "coordinate": _classes(གདབ="ཅིང", ངནམའརལ="ཞིང", ས="ཤིང"),
    "quotative": _classes(གདབ="ཅེས", ངནམའརལས="ཞེས"),
    "concessive": _classes(གདབས="ཀྱང", ངནམརལའ="ཡང"),
    "indefinite": _classes(གདབ="ཅིག", ངནམའརལ="ཞིག", ས="ཤིག"),
}


def last_letter(word: str) -> str:
    """Return the letter that decides how a particle after `word` is spelt: "འ" if its last syllable is open.

    Example:
        >>> last_letter("བཅོམ་ལྡན་འདས"), last_letter("སྟོན་པ"), last_letter("དགའ")
        ('ས', 'འ', 'འ')
    """
    match = _SUFFIX.search(word.rstrip(TSHEG).rpartition(TSHEG)[2])
    return match[0] if match else "འ"


def add_particle(word: str, particle: str) -> str:
    """Append a particle to a word.

    Args:
        word: A word, without a tsheg at its end.
        particle: "genitive", "ergative", "terminative", "final", "final-strong", "continuative", "coordinate",
            "quotative", "concessive" or "indefinite".

    Example:
        >>> add_particle("རྒྱལ་པོ", "genitive"), add_particle("མིག", "genitive"), add_particle("དགའ", "final")
        ('རྒྱལ་པོའི', 'མིག་གི', 'དགའོ')
    """
    spelling = _SPELLINGS[particle][last_letter(word)]
    if spelling.startswith("-"):
        return word.removesuffix("འ") + spelling[1:]
    return f"{word}{TSHEG}{spelling}"
