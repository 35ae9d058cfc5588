"""Which language a short text is in: by script, then by the commonest words of languages in Latin script."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# The most frequent function words, those that several of these languages share left out where possible.
_FUNCTION_WORDS = {
    "en": "the and of to is in that was it for with as are this not but by from which have has be on at would so",
    "de": "der die das und ist nicht ein eine zu den von mit sich auf für dem des auch als wird aus nach dass",
    "fr": "le les et est des une du dans que qui ne pas pour sur avec ce cette il elle sont au par plus",
    "es": "el los las y es que no se por con una para como más pero su lo del al está son fue",
    "it": "il gli che è di non una per con sono della del nel anche più come alla dei ma questo",
    "pt": "os um uma não que é com para por mais como mas dos das ao foi ele são na no do da",
    "nl": "het een van is dat niet en de op zijn te met voor aan ook als maar bij door worden",
    "sv": "och att det som en på är av för med den till inte om ett har de vid",
    "pl": "i w nie na się z że do to jest jak ale po co tak za od ich oraz",
    "tr": "ve bir bu da de için ile çok olarak daha olan gibi ne kadar değil",
    "id": "yang dan di itu dengan untuk tidak dari dalam akan pada ini ke adalah karena",
}
_WORDS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}

# The script alone tells the language, or the largest one that uses it.
_SCRIPTS = {
    "CYRILLIC": "ru", "GREEK": "el", "ARABIC": "ar", "HEBREW": "he", "DEVANAGARI": "hi", "BENGALI": "bn",
    "THAI": "th", "HANGUL": "ko", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh",
}  # fmt: skip


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the likeliest language of `text`; ``und`` where nothing speaks for one."""
    scripts = Counter(unicodedata.name(letter, "?").split()[0].split("-")[0] for letter in text if letter.isalpha())
    if not scripts:
        return "und"
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:
        return "ja"  # Chinese has none of these
    script = scripts.most_common(1)[0][0]
    if script != "LATIN":
        return _SCRIPTS.get(script, "und")
    words = re.findall(r"[^\W\d_]+", text.lower())
    votes = {language: sum(word in known for word in words) for language, known in _WORDS.items()}
    best = max(votes, key=votes.__getitem__)
    return best if votes[best] else "und"
