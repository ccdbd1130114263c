"""Names of charsets, as mail uses them, and the codecs that read them.

webencodings has the labels of the WHATWG Encoding standard. Mail uses more names for the same charsets:
Microsoft's numbers of code pages, spellings with other signs between letters and digits, and charsets
that browsers do not read. Only names of this module's tables reach Python's codec registry, because it
keeps every unknown name for ever, and because some of its codecs (punycode, idna) take quadratic time.
"""

from __future__ import annotations

import re
from encodings.aliases import aliases
from functools import lru_cache
from typing import Final

from webencodings.labels import LABELS

_OF_WHATWG: Final = {
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "ibm866": "cp866",
    "iso-8859-8-i": "iso8859_8",
    "macintosh": "mac_roman",
    "shift_jis": "cp932",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac_cyrillic",
}
"""Codecs of the standard's encodings where their names differ: the sets of characters that vendors
extended, because real mail uses the old names for them."""

_CODE_PAGES: Final = {  # Microsoft's numbers (Windows code page identifiers) without a codec of that name
    "708": "iso8859_6",
    "874": "cp874",
    "936": "gb18030",
    "943": "cp932",
    "950": "big5hkscs",
    "1200": "utf_16_le",
    "1201": "utf_16_be",
    "1361": "johab",
    "10000": "mac_roman",
    "10006": "mac_greek",
    "10007": "mac_cyrillic",
    "10029": "mac_latin2",
    "10081": "mac_turkish",
    "12000": "utf_32_le",
    "12001": "utf_32_be",
    "20127": "ascii",
    "20866": "koi8_r",
    "20932": "euc_jp",
    "20936": "gb18030",
    "20949": "cp949",
    "21866": "koi8_u",
    "38598": "iso8859_8",
    "50220": "iso2022_jp",
    "50221": "iso2022_jp",
    "50222": "iso2022_jp",
    "50225": "iso2022_kr",
    "51932": "euc_jp",
    "51936": "gb18030",
    "51949": "cp949",
    "52936": "hz",
    "54936": "gb18030",
    "65000": "utf_7",
    "65001": "utf_8",
}
_OF_MAIL: Final = {
    "ansix341968": "ascii",
    "ascii": "ascii",
    "csascii": "ascii",
    "big5eten": "big5hkscs",
    "cngb": "gb18030",
    "cngbiso2022": "gb18030",
    "csunicode11utf7": "utf_7",
    "eucjis": "euc_jp",
    "eucjpms": "euc_jp",
    "eucjpwin": "euc_jp",
    "euccn": "gb18030",
    "gb2312eu": "gb18030",
    "hzgb2312": "hz",
    "jis": "iso2022_jp",
    "jisx0208": "iso2022_jp",
    "koi8": "koi8_r",
    "koi8u": "koi8_u",
    "latin9": "iso8859_15",
    "macce": "mac_latin2",
    "macroman": "mac_roman",
    "msansi": "cp1252",
    "msarab": "cp1256",
    "mscyrl": "cp1251",
    "msee": "cp1250",
    "msgreek": "cp1253",
    "mshebr": "cp1255",
    "mskanji": "cp932",
    "msturk": "cp1254",
    "sjiswin": "cp932",
    "ujis": "euc_jp",
    "uhc": "cp949",
    "unicode11utf7": "utf_7",
    "unicode20utf7": "utf_7",
    "usascii": "ascii",
    "utf8mb4": "utf_8",
    "windows31j": "cp932",
    "windowsarabic": "cp1256",
    "windowsbaltic": "cp1257",
    "windowscyrillic": "cp1251",
    "windowsgreek": "cp1253",
    "windowshebrew": "cp1255",
    "windowsturkish": "cp1254",
    "winbaltrim": "cp1257",
}
"""Names that mail uses and the standard does not, by their letters and digits."""

_NO_CHARSET: Final = frozenset(
    {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
    | {"idna", "punycode", "mbcs", "tactis", "undefined", "unicode_escape", "raw_unicode_escape"}
)
_NOT_ALIKE: Final = re.compile(r"[^a-z0-9]")
_NUMBERED: Final = re.compile(
    r"(?:x|cs)?(?:ms)?(?:cp|dos|ibm|ms|msdos|oem|pc|win|windows|ansi|codepage)0*(\d{3,5})"
)
_JIS: Final = re.compile(r"(?:x|cs)?iso2022jp[0-9a-z]*")
_LATIN: Final = re.compile(r"(?:x|cs)?(?:iso)?8859(\d{1,2})[a-z]*")


def _by_alikes() -> dict[str, str]:
    """Codecs by the letters and digits of their names: Python's, then the standard's, then mail's."""
    found: dict[str, str] = {}
    for name, codec in (*aliases.items(), *((codec, codec) for codec in aliases.values())):
        if codec not in _NO_CHARSET:
            found[_NOT_ALIKE.sub("", name)] = codec
    for label, name in LABELS.items():
        if name not in ("replacement", "x-user-defined"):  # mail does use ISO-2022-KR and HZ
            found[_NOT_ALIKE.sub("", label)] = _OF_WHATWG.get(name) or name.replace("-", "_")
    found.update(_OF_MAIL)
    return {name: _PYTHON.get(codec, codec) for name, codec in found.items()}


_PYTHON: Final = {
    **{f"iso_8859_{part}": f"iso8859_{part}" for part in range(1, 17)},
    **{f"windows_{page}": f"cp{page}" for page in range(1250, 1259)},
    "iso_2022_jp": "iso2022_jp",
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "utf_16le": "utf_16_le",
    "utf_16be": "utf_16_be",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
}
"""Codecs for names of codecs: what Python's registry would find under them reads less."""

_CODECS: Final = _by_alikes()


@lru_cache(maxsize=256)
def codec_of(charset: str) -> str | None:
    """The codec of a charset by its name in mail, None for an unknown one. "ascii" stands for US-ASCII,
    which senders also give for what is not ASCII."""
    if len(charset) > 64:
        return None
    name = _NOT_ALIKE.sub("", charset.lower())
    if _JIS.fullmatch(name):
        return "iso2022_jp"
    codec = _CODECS.get(name) or _CODECS.get(name.removeprefix("x")) or _CODECS.get(name.removeprefix("cs"))
    if codec is not None:
        return codec
    if (numbered := _NUMBERED.fullmatch(name)) is not None:
        return _CODE_PAGES.get(numbered[1]) or _CODECS.get("cp" + numbered[1]) or _latin(numbered[1])
    if (latin := _LATIN.fullmatch(name)) is not None:
        return _CODECS.get("iso8859" + latin[1])
    return None


def _latin(number: str) -> str | None:
    """Microsoft numbers the parts of ISO 8859 from 28591 on."""
    return _CODECS.get(f"iso8859{int(number) - 28_590}") if number.startswith(("2859", "2860")) else None
