"""How numbers, dates and truth values are written in each locale that an upload can name."""

from __future__ import annotations

from dataclasses import dataclass

TRUE, FALSE = "true", "false"
BLANKS = "\u0020\u00a0\u202f\u2009"
"""The blanks that separate thousands: the ordinary one, and those that French programs write."""

WESTERN, JAPANESE = "cp1252", "cp932"
"""The encodings of Windows before UTF-8, as Python names them."""


@dataclass(frozen=True, slots=True)
class Locale:
    """The conventions of one locale."""

    decimal: str  # the decimal separator
    date_order: str  # the order of day, month and year: "dmy", "mdy" or "ymd"
    yes: frozenset[str]  # words for true, in lower case
    no: frozenset[str]
    currencies: tuple[str, ...]  # signs that may stand before or after an amount
    letters: str = ""  # its lower-case letters beyond ASCII
    encoding: str = WESTERN  # of files that are not in UTF-8


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PORTUGUESE = words("sim s verdadeiro true"), words("não nao n falso false")
GERMAN = words("ja j wahr true"), words("nein n falsch false")
FRENCH = words("oui o vrai true"), words("non n faux false")
ENGLISH = words("yes y true"), words("no n false")
SPANISH = words("sí si s verdadero true"), words("no n falso false")
JAPANESE_WORDS = words("はい true 真"), words("いいえ false 偽")

LOCALES = {
    "de-DE": Locale(",", "dmy", *GERMAN, ("€",), "äöüß"),
    "en-GB": Locale(".", "dmy", *ENGLISH, ("£",)),
    "en-US": Locale(".", "mdy", *ENGLISH, ("$",)),
    "es-ES": Locale(",", "dmy", *SPANISH, ("€",), "áéíóúüñ"),
    "fr-FR": Locale(",", "dmy", *FRENCH, ("€",), "àâæçèéêëîïôœùûüÿ"),
    "ja-JP": Locale(".", "ymd", *JAPANESE_WORDS, ("¥", "￥", "円"), encoding=JAPANESE),
    "pt-BR": Locale(",", "dmy", *PORTUGUESE, ("R$",), "áâãàçéêíóôõúü"),
}
"""The locales by the names that `locale` accepts."""
