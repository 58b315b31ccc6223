"""The framing of an image: scaled to cover a frame, then center-cropped."""

from dataclasses import dataclass

__all__ = ["Framing", "cover"]


@dataclass(frozen=True)
class Framing:
    """Scale the source to `scaled` (width, height), then crop `box` (left, top, right, bottom), in pixels."""

    source: tuple[int, int]
    scaled: tuple[int, int]
    box: tuple[int, int, int, int]

    def describe(self, what: str) -> str | None:
        """Describe the change to the image in a sentence; None if there is none."""
        width, height = self.box[2] - self.box[0], self.box[3] - self.box[1]
        if self.source == (width, height):
            return None
        cropped = (self.scaled[0] - width, self.scaled[1] - height)
        text = f"{what} {self.source[0]}x{self.source[1]} scaled to {self.scaled[0]}x{self.scaled[1]}"
        if cropped != (0, 0):
            text += f" and cropped to {width}x{height} ({cropped[0]} px of width, {cropped[1]} px of height lost)"
        return text


def cover(source: tuple[int, int], frame: tuple[int, int]) -> Framing:
    """Return the framing that fills `frame` (width, height) from `source` (width, height) and crops least."""
    scale = max(frame[0] / source[0], frame[1] / source[1])
    scaled = (max(frame[0], round(source[0] * scale)), max(frame[1], round(source[1] * scale)))
    left, top = (scaled[0] - frame[0]) // 2, (scaled[1] - frame[1]) // 2
    return Framing(source, scaled, (left, top, left + frame[0], top + frame[1]))
