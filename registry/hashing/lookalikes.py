"""Letters that look like others: what a name is to the eye, so that two names cannot pose as one.

Only letters of scripts that share their shapes with Latin ones are listed, as pairs of one
character each; full-width and mathematical forms fall together under normal form KC already.
Source: Unicode Technical Standard #39, confusables.txt of Unicode 15.
"""

from __future__ import annotations

from typing import Final

# What is shown, and what else looks so: Greek, Cyrillic, Armenian, Cherokee, Coptic, Lisu, and
# Latin letters beyond ASCII; dashes look like the hyphen.
_LOOK_ALIKES: Final = {
    "-": "‐‑‒–⁃−Ⲻ﹘",
    ".": "ꓸ",
    "2": "ƧϨꙄꝚ",
    "3": "ƷȜЗӠⳌꝪꞫ",
    "4": "Ꮞ",
    "5": "Ƽ",
    "6": "бᏮⳒ",
    "8": "Ȣȣ",
    "9": "ⳊꝮ",
    "A": "ΑАᎪꓮ",
    "B": "ΒВᏴꓐꞴ",
    "C": "ϹСᏟⲤꓚ",
    "D": "Ꭰꓓ",
    "E": "ΕЕᎬꓰ",
    "F": "ϜꓝꞘ",
    "G": "ԌᏀᏳꓖ",
    "H": "ΗНᎻⲎꓧ",
    "I": "ΙІӀⲒꓲ",
    "J": "ͿЈᎫꓙꞲ",
    "K": "ΚКᏦⲔꓗ",
    "L": "ᏞⳐꓡ",
    "M": "ΜϺМᎷⲘꓟ",
    "N": "ΝⲚꓠ",
    "O": "ΟОՕⲞꓳ",
    "P": "ΡРᏢⲢꓑ",
    "R": "ƦᎡᏒꓣ",
    "S": "ЅՏᏕᏚꓢ",
    "T": "ΤТᎢⲦꓔ",
    "U": "Սꓴ",
    "V": "ѴᏙꓦ",
    "W": "ԜᎳᏔꓪ",
    "X": "ΧХⲬꓫꞳ",
    "Y": "ΥϒУҮᎩᎽⲨꓬ",
    "Z": "ΖᏃꓜ",
    "a": "ɑαа",
    "b": "ƄЬᏏ",
    "c": "ϲсᴄⲥꮯ",
    "d": "ԁᏧꓒ",
    "e": "еҽꬲ",
    "f": "քẝꞙꬵ",
    "g": "ƍɡցᶃ",
    "h": "һհᏂ",
    "i": "ıɩɪιіӏᎥιꙇꭵ",
    "j": "ϳј",
    "l": "Ɩǀ",
    "n": "ոռ",
    "o": "οσоօᴏᴑⲟꬽ",
    "p": "ρϱрⲣ",
    "q": "ԛգզ",
    "r": "гᴦⲅꭇꭈꮁ",
    "s": "ƽѕꜱꮪ",
    "u": "ʋυսᴜꞟꭎꭒ",
    "v": "νѵᴠꮩ",
    "w": "ɯѡԝաᴡꮃ",
    "x": "×х",
    "y": "ɣʏγуүᶌỿꭚ",
    "z": "ᴢꮓ",
}
_SEEN_AS: Final = str.maketrans(
    {other: shown for shown, others in _LOOK_ALIKES.items() for other in others}
)


def seen(text: str) -> str:
    """Return `text` with every listed letter replaced by the ASCII character it looks like."""
    return text.translate(_SEEN_AS)
