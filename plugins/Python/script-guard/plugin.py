"""Keeps a conversation in the scripts that its people read, and stops words that imitate others with borrowed letters.

`paypal` with a Cyrillic `а` in it looks like the real one; such a word is refused, held for review or left alone. Letters
count by their script, whatever their form: ＦＵＬＬＷＩＤＴＨ and 𝐛𝐨𝐥𝐝 ones are LATIN. Digits, marks and emoji belong to none.
A text of more than 4000 characters is refused.
"""

import re
import unicodedata
from collections import Counter

from arcyou import accept, hold, plugin, reject, settings


def script(letter):
    """The first word of a letter's Unicode name: LATIN, HANGUL, CYRILLIC, CJK, …"""
    return unicodedata.name(letter, "").partition(" ")[0]


# Made once, when the component is built.
SCRIPTS = {script(letter) for letter in map(chr, range(0x110000)) if letter.isalpha()}
LATIN = {letter for letter in map(chr, range(0x110000)) if letter.isalpha() and script(letter) == "LATIN"}
LOOK_LATIN = set("аеорсухіјѕһԛԝАВЕЅІЈКМНОРСТУХҮοναρΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")


class ScriptGuard:
    def __init__(self, config):
        self.config = settings(
            config,
            {
                "allow": [],  # scripts such as "HANGUL" and "LATIN"; none: all
                "percent": 70,  # of the letters that must be of these
                "imitations": "reject",  # or "hold", or "accept"
                "fields": ["text"],
                "max_chars": 4000,  # longer texts are refused
            },
        )
        if unknown := [name for name in self.config["allow"] if name not in SCRIPTS]:
            raise ValueError(f'"allow": {unknown[0]!r} is no script; "HANGUL", "LATIN", "CJK", "HIRAGANA", "CYRILLIC" are')
        if self.config["max_chars"] < 1:
            raise ValueError('"max_chars" must be at least 1')
        if not 0 <= self.config["percent"] <= 100:
            raise ValueError('"percent" must be within 0 and 100')
        if self.config["imitations"] not in ("reject", "hold", "accept"):
            raise ValueError('"imitations" must be "reject", "hold" or "accept"')

    def validate(self, message):
        texts = (message.body.get(field) for field in self.config["fields"])
        text = " ".join(text for text in texts if isinstance(text, str))
        # To judge one letter costs microseconds.
        if len(text) > self.config["max_chars"]:
            return reject("text_too_long", f"the text has {len(text)} characters, {self.config['max_chars']} are allowed")
        text = plain(text)
        if self.config["imitations"] != "accept" and (word := imitation(text)):
            if self.config["imitations"] == "hold":
                return hold(f"the word {word!r} mixes letters that look alike")
            return reject("imitation", f"the word {word!r} mixes letters that look alike")
        letters = {letter: count for letter, count in Counter(text).items() if letter.isalpha()}
        allowed = sum(count for letter, count in letters.items() if script(letter) in self.config["allow"])
        if self.config["allow"] and allowed * 100 < sum(letters.values()) * self.config["percent"]:
            return reject("script", f"please write in {' or '.join(name.capitalize() for name in self.config['allow'])}")
        return accept()


def plain(text):
    """The text with each character in its plainest form, of which the first letter tells the script, and without accents.

    Character by character: to normalise a whole text of accents takes a time that grows with its square.
    """
    if text.isascii():
        return text
    forms = {ord(c): "" if unicodedata.combining(c) else unicodedata.normalize("NFKC", c)[:1] for c in set(text)}
    return text.translate(forms)


def imitation(text):
    """The first word with letters of another script that look like the Latin ones beside them."""
    words = map(re.Match.group, re.finditer(r"[^\W\d_]+", text))
    return next((word for word in words if not LOOK_LATIN.isdisjoint(word) and not LATIN.isdisjoint(word)), None)


Configure, Validate = plugin(ScriptGuard, "validate")
