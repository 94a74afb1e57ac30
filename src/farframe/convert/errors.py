"""What can go wrong in a conversion, and what is only worth a warning: numeric codes, titles, details.

    Code  Title                                          When
    ----  ---------------------------------------------  ------------------------------------------------------------
    2001  The conversion settings are not valid.         the settings file is no JSON, or a property has a wrong value
    2002  The material overrides are not valid.          the same for the file of material overrides
    2003  The input asset was not found.                 the file, or one that it cannot do without, does not exist
    2004  The format of the input asset is not read.     unknown extension, unknown version, required extension
    2005  The name of an input file is not allowed.      longer than 178 characters; a file and a folder of equal name
    2006  The conversion exceeds its limits.             memory, time, triangles, pixels, nodes
    2007  The input asset is not valid.                  broken content
    2008  The output could not be written.               no space, no permission
    2009  The conversion failed for an internal reason.  our fault
    4001  Part of the input asset is left out.           a feature that is not supported, named in the details
    4002  Part of the input asset was repaired.          content that is not valid, and what was made of it
    4003  A setting has no effect.                       deprecated names, settings that the format does not know
    4004  Missing texture                                no file is found for a texture
    4005  Too many materials                             beyond 65,535: shown as a red error material

Codes 2xxx end a conversion, 4xxx are warnings. A code never changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from farframe.protocol.errors import FarframeError, Result

SETTINGS_INVALID = "2001"
OVERRIDES_INVALID = "2002"
INPUT_NOT_FOUND = "2003"
FORMAT_NOT_SUPPORTED = "2004"
NAME_NOT_ALLOWED = "2005"
LIMITS_EXCEEDED = "2006"
INPUT_NOT_VALID = "2007"
OUTPUT_NOT_WRITTEN = "2008"
INTERNAL = "2009"

LEFT_OUT = "4001"
REPAIRED = "4002"
NO_EFFECT = "4003"
MISSING_TEXTURE = "4004"
TOO_MANY_MATERIALS = "4005"

TITLES = {
    SETTINGS_INVALID: "The conversion settings are not valid.",
    OVERRIDES_INVALID: "The material overrides are not valid.",
    INPUT_NOT_FOUND: "The input asset was not found.",
    FORMAT_NOT_SUPPORTED: "The format of the input asset is not read.",
    NAME_NOT_ALLOWED: "The name of an input file is not allowed.",
    LIMITS_EXCEEDED: "The conversion exceeds its limits.",
    INPUT_NOT_VALID: "The input asset is not valid.",
    OUTPUT_NOT_WRITTEN: "The output could not be written.",
    INTERNAL: "The conversion failed for an internal reason.",
    LEFT_OUT: "Part of the input asset is left out.",
    REPAIRED: "Part of the input asset was repaired.",
    NO_EFFECT: "A setting has no effect.",
    MISSING_TEXTURE: "Missing texture",
    TOO_MANY_MATERIALS: "Too many materials",
}

_CODES = {
    Result.FILE_NOT_FOUND: INPUT_NOT_FOUND,
    Result.NOT_SUPPORTED: FORMAT_NOT_SUPPORTED,
    Result.FILE_CORRUPT: INPUT_NOT_VALID,
    Result.EXCEEDS_MEMORY_LIMIT: LIMITS_EXCEEDED,
}


class ConversionFailed(Exception):  # noqa: N818 - a state of the contract, not a kind of fault
    """The end of a conversion: a numeric ``code`` as text, a ``title``, and ``details`` that say where and what to do.

    ``warnings``: what there was to warn of before it ended. Everything in it may be shown to whoever asked for it.
    """

    def __init__(self, code: str, title: str = "", details: dict[str, str] | None = None) -> None:
        self.code = code
        self.title = title or TITLES[code]
        self.details = details or {}
        self.warnings: list[ConversionWarning] = []
        super().__init__(" ".join([f"{self.code}: {self.title}", *self.details.values()]))


@dataclass(frozen=True, slots=True)
class ConversionWarning:
    """Something that a conversion could not keep, though it goes on: for the result file."""

    code: str
    details: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The sentence that belongs to the code."""
        return TITLES[self.code]

    @classmethod
    def left_out(cls, what: str) -> ConversionWarning:
        """A feature of the file that is not supported."""
        return cls(LEFT_OUT, {"import warning": what})

    @classmethod
    def repaired(cls, what: str) -> ConversionWarning:
        """Content that is not valid, and what was made of it."""
        return cls(REPAIRED, {"import warning": what})


def from_farframe_error(error: FarframeError) -> ConversionFailed:
    """The one place where readers' errors become conversion errors."""
    code = _CODES.get(error.result, INTERNAL)
    details = {"import error": error.message}
    if error.next_step:
        details["next step"] = error.next_step
    return ConversionFailed(code, details=details)
