"""The lengths and sizes that a model allows: two parts of a manifest."""

from typing import Self

from pydantic import Field, model_validator

from wan_mcp.schema.enums import Frozen

__all__ = ["FrameRule", "Resolution", "Sizes"]


class FrameRule(Frozen):
    """Frame counts that the model allows: multiple * k + offset, within bounds."""

    multiple: int = Field(ge=1)
    offset: int = Field(default=1, ge=0)
    minimum: int = Field(ge=1)
    maximum: int = Field(ge=1)
    default: int = Field(ge=1)
    fps: float = Field(gt=0, description="Frames per second that the model was trained with.")

    @model_validator(mode="after")
    def _bounds_follow_the_rule(self) -> Self:
        wrong = [n for n in (self.minimum, self.maximum, self.default) if not self._fits(n)]
        if wrong or not self.minimum <= self.default <= self.maximum:
            raise ValueError(f"minimum, default and maximum must ascend and follow the rule; wrong: {wrong}")
        return self

    def _fits(self, frames: int) -> bool:
        return frames >= self.offset and (frames - self.offset) % self.multiple == 0

    def allows(self, frames: int) -> bool:
        """Check whether the model can make this many frames."""
        return self._fits(frames) and self.minimum <= frames <= self.maximum

    def nearest(self, frames: float) -> int:
        """Return the allowed count nearest to `frames`."""
        # Bounded first: a division makes a float, which an integer of hundreds of digits does not fit.
        k = round((min(max(frames, self.minimum), self.maximum) - self.offset) / self.multiple)
        return min(max(self.multiple * k + self.offset, self.minimum), self.maximum)

    def describe(self) -> str:
        """Describe the rule in words."""
        return f"{self.multiple}k+{self.offset}, {self.minimum} to {self.maximum}"

    @property
    def shortest_s(self) -> float:
        """The duration of the fewest frames, in seconds."""
        return round(self.minimum / self.fps, 3)

    @property
    def longest_s(self) -> float:
        """The duration of the most frames, in seconds."""
        return round(self.maximum / self.fps, 3)

    def in_words(self) -> str:
        """Describe the lengths of a video as all lists and refusals do: in frames, and in seconds."""
        return f"{self.describe()} frames at {self.fps:g} fps ({self.shortest_s:g} to {self.longest_s:g} s)"


class Resolution(Frozen):
    """A named size in pixels."""

    name: str
    width: int = Field(ge=16)
    height: int = Field(ge=16)
    official: bool = Field(default=True, description="False if the model's authors do not list it.")

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height


class Sizes(Frozen):
    """The sizes that the model allows."""

    multiple: int = Field(ge=1, description="Width and height are multiples of this.")
    default: str
    named: tuple[Resolution, ...] = Field(min_length=1)
    free: bool = Field(default=False, description="True if WIDTHxHEIGHT is allowed in addition to the named sizes.")
    max_pixels: int | None = Field(default=None, description="Largest width * height of a free size.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default not in {r.name for r in self.named}:
            raise ValueError(f"default '{self.default}' is not among the named sizes")
        for r in self.named:
            if r.width % self.multiple or r.height % self.multiple:
                raise ValueError(f"'{r.name}' is not a multiple of {self.multiple}")
        if self.free and self.max_pixels is None:
            raise ValueError("free sizes need max_pixels")
        return self

    @property
    def default_size(self) -> Resolution:
        """The size of a result by default."""
        return next(size for size in self.named if size.name == self.default)

    def described(self) -> str:
        """Return the rule for free sizes in words, and which named ones the model's authors list if not all."""
        free = f"WIDTHxHEIGHT in multiples of {self.multiple}, up to {self.max_pixels} pixels"
        official = [f"{r.width}x{r.height}" for r in self.named if r.official]
        return free if len(official) == len(self.named) else f"{free}; its authors list only {', '.join(official)}"

    def named_as(self, name: str) -> Resolution | None:
        """Return the resolution of that name in any case, or None."""
        return next((r for r in self.named if r.name.lower() == name.lower()), None)
