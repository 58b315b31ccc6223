"""Colours of images: a transform to sRGB from an ICC profile, or from what a PNG says instead of one.

Models were trained on sRGB, so colours are converted once, as images come in. Nothing here knows files or jobs.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wan_mcp.text import escaped, quoted

if TYPE_CHECKING:
    from PIL import Image, ImageCms

__all__ = ["BadProfile", "ToSRGB", "has_code_points", "profile_of_code_points", "profile_of_primaries"]

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""The colour spaces of profiles that images here may have, and Pillow's mode of each."""
NOTICEABLE = 2  # of 255: what differs less from sRGB is sRGB, rounded by the profile's author
SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""x and y of white, red, green and blue (ITU-R BT.709)."""
PRIMARIES = {
    1: SRGB_PRIMARIES,
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
"""Of BT.709, BT.2020 and Display P3, by their code points (ITU-T H.273, table 2)."""
GAMMAS = {1: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
"""Exponents by the code points of transfer functions (ITU-T H.273, table 3); None for sRGB's own curve, which is what
browsers take for BT.709's as well. PQ and HLG (16, 18) are of high dynamic range: they have no place in sRGB."""
D50 = (0.9642, 1.0, 0.8249)
"""White of the profile connection space (ICC.1:2022, 7.2.16)."""
BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
SRGB_GAMMA = 2.2
SRGB_CURVE: tuple[float, ...] = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""Exponent, scale and offset, slope of the straight part, and where it ends (IEC 61966-2-1)."""
GAMMA_THRESHOLD = 0.05  # as in libpng: a gamma this near to sRGB's means sRGB


class BadProfile(Exception):
    """A colour profile cannot be used for an image; the text says why."""


@dataclass(frozen=True)
class ToSRGB:
    """A transform to sRGB of images of one mode."""

    mode: str
    """Pillow's mode of the images that it takes: RGB, L or CMYK."""
    name: str
    """The colour space that the profile describes, as an error or a note shows it."""
    _transform: "ImageCms.ImageCmsTransform"

    @classmethod
    def of(cls, profile: bytes, image_mode: str) -> "ToSRGB | None":
        """Return the transform of an ICC profile for an image of a mode of Pillow's; None if it changes nothing.

        Raises:
            BadProfile: It cannot be read, or is for other images.
        """
        from PIL import ImageCms

        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            name = quoted(ImageCms.getProfileDescription(source).strip() or space)
        except Exception as error:  # the parser's own errors, and what broken texts in a profile raise
            raise BadProfile("it is broken") from error
        mode = MODES.get(space)
        if mode is None or mode != _profile_mode(image_mode, mode):
            raise BadProfile(f"it is for {escaped(space)} images")
        try:
            srgb = ImageCms.createProfile("sRGB")
            transform = cls(mode, name, ImageCms.buildTransform(source, srgb, mode, "RGB"))
            return transform if transform._is_noticeable() else None
        except Exception as error:  # likewise: lcms refuses profiles of other kinds here
            raise BadProfile("it is broken") from error

    def apply(self, image: "Image.Image") -> "Image.Image":
        """Convert an image of `mode` to RGB."""
        from PIL import ImageCms

        converted = ImageCms.applyTransform(image, self._transform)
        assert converted is not None
        return converted

    def _is_noticeable(self) -> bool:
        """Compare colours with what they are without the transform: a profile's name says little."""
        import numpy as np
        from PIL import Image

        if self.mode == "CMYK":
            return True
        levels = np.linspace(0, 255, 9).round().astype(np.uint8)
        cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        greys = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, -1, 3)
        plain = Image.fromarray(np.ascontiguousarray(np.concatenate((cube, greys), 1) if self.mode == "RGB" else greys))
        converted = self.apply(plain.convert(self.mode))
        difference = np.asarray(converted).astype(int) - np.asarray(plain)
        return bool(np.abs(difference).max() > NOTICEABLE)


def _profile_mode(image_mode: str, mode: str) -> str:
    """Return the mode that a profile of an image must have; greys may have one for greys or for RGB."""
    if image_mode in ("CMYK", "LAB"):
        return image_mode
    grey = image_mode in ("1", "L", "LA", "La") or image_mode.startswith(("I", "F"))
    return mode if grey and mode != "CMYK" else "RGB"


def has_code_points(primaries: int, transfer: int) -> bool:
    """Check whether `profile_of_code_points` knows this colour space."""
    return primaries in PRIMARIES and transfer in GAMMAS


def profile_of_code_points(primaries: int, transfer: int) -> bytes:
    """Return the ICC profile of a colour space by its code points, as PNG's cICP has them.

    Raises:
        BadProfile: There is none for these, e.g. for high dynamic range.
    """
    if not has_code_points(primaries, transfer):
        raise BadProfile(f"colour space {primaries}/{transfer} is not supported")
    return profile_of_primaries(PRIMARIES[primaries], GAMMAS[transfer])


def profile_of_primaries(primaries: Sequence[float] | None, gamma: float | None) -> bytes:
    """Return the ICC profile of an RGB colour space.

    Args:
        primaries: x and y of white, red, green and blue; None for those of sRGB.
        gamma: The exponent that decodes a value to light; None for sRGB's curve.

    Raises:
        BadProfile: There is no such colour space.
    """
    import numpy as np

    chromaticities = np.array(primaries or SRGB_PRIMARIES, dtype=np.float64).reshape(4, 2)
    if not (np.isfinite(chromaticities).all() and (chromaticities[:, 1] > 0).all()):
        raise BadProfile("its primaries are impossible")
    xyz = np.stack([[x / y, 1, (1 - x - y) / y] for x, y in chromaticities], 1)  # columns: white, red, green, blue
    bradford, white = np.array(BRADFORD), xyz[:, 0]
    try:
        colorants = xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], white)
    except np.linalg.LinAlgError as error:
        raise BadProfile("its primaries are impossible") from error
    adapted = np.linalg.inv(bradford) @ np.diag(bradford @ D50 / (bradford @ white)) @ bradford @ colorants
    if gamma is not None and not 0.1 <= gamma <= 10:
        raise BadProfile("its gamma is impossible")
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > 100:
        raise BadProfile("its primaries are impossible")
    is_srgb = gamma is None or abs(gamma / SRGB_GAMMA - 1) < GAMMA_THRESHOLD
    kind, parameters = (3, SRGB_CURVE) if gamma is None or is_srgb else (0, (gamma,))
    curve = b"para" + bytes(4) + struct.pack(">HH", kind, 0) + _fixed(*parameters)
    name = "the primaries and gamma in the file".encode("utf-16-be")
    tags = {
        b"desc": b"mluc" + bytes(4) + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(name), 28) + name,
        b"wtpt": b"XYZ " + bytes(4) + _fixed(*D50),
        **{key: b"XYZ " + bytes(4) + _fixed(*adapted[:, i]) for i, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    return _icc(tags)


def _icc(tags: dict[bytes, bytes]) -> bytes:
    """Write a display profile of version 4 (ICC.1:2022, 7)."""
    table, data, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for key, content in tags.items():
        content += bytes(-len(content) % 4)
        table += key + struct.pack(">II", start + len(data), len(content))
        data += content
    size = struct.pack(">I", start + len(data))
    head = size + bytes(4) + b"\x04\x30\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + _fixed(*D50) + bytes(48)
    return head + table + data


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
