"""Image: a picture from an array, PIL, matplotlib, a file or its bytes."""

import io
import sys
from typing import Any, Dict, Iterable, Iterator, Optional

from .._values import UnsupportedError, to_plain
from . import annotations
from .annotations import Classes, Masks
from .libraries import comes_from, needed
from .media import Media, as_path, extension_of, read_start
from .picture_file import START_BYTES, look_at
from .pixels import to_pixels
from .png import png_blocks
from .value import RichValue

_CHANNELS_OF_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
#: Modes of PIL that a PNG holds as they are.
_PNG_MODES = frozenset(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
_FILE_TYPES = {"jpeg": "jpg", "tif": "tiff"}
#: Extensions of pictures whose first bytes are not looked at.
_EXTENSIONS = frozenset(["avif", "exr", "hdr", "heic", "ico", "jp2", "pgm", "ppm", "svg", "tga"])


class Image(RichValue):
    """A picture, kept as a file: as it is where it was one, else as PNG."""

    _type = "image"

    def __init__(
        self,
        data_or_path: Any,
        mode: Optional[str] = None,
        caption: Any = None,
        grouping: Optional[int] = None,
        classes: Any = None,
        boxes: Any = None,
        masks: Any = None,
        file_type: Optional[str] = None,
        normalize: bool = True,
    ) -> None:
        """data_or_path: what docs/rich-values.md lists. file_type: other than PNG needs PIL.

        normalize: numbers of an array are brought to 0 … 255 (pixels.py says how), else only cut there.
        """
        self.caption = None if caption is None else str(to_plain(caption))
        self.format = ""
        self.width: Optional[int] = None
        self.height: Optional[int] = None
        self._path: Optional[str] = None
        self._pixels: Any = None
        self._content: Optional[bytes] = None
        self._notes: Dict[str, Any] = {}
        self._masks: Optional[Masks] = None
        with self._noting_problems():
            self._take(data_or_path, mode, file_type, normalize)
            self._annotate(grouping, classes, boxes, masks)

    def _take(self, given: Any, mode: Optional[str], file_type: Optional[str], normalize: bool) -> None:
        wanted = (file_type or "").lower().lstrip(".")
        wanted = _FILE_TYPES.get(wanted, wanted)
        path = as_path(given)
        if isinstance(given, Image):
            self._take_other(given)
        elif path is not None:
            self._path = path
            extension = extension_of(path)
            known = extension if extension in _EXTENSIONS else ""
            self._look(read_start(path, START_BYTES), wanted or known)
        elif isinstance(given, (bytes, bytearray, memoryview)) or callable(getattr(given, "read", None)):
            content = bytes(given.read() if hasattr(given, "read") else given)
            self._content = content
            self._look(content[:START_BYTES], wanted)
        elif is_matplotlib(given):
            self._save(lambda file: figure_of(given).savefig(file, format=wanted or "png"), wanted or "png")
        elif comes_from(given, "PIL"):
            self._take_pil(given, mode, wanted)
        else:
            self._take_array(given, mode, wanted, normalize)

    def _take_other(self, other: "Image") -> None:
        if other.problem is not None:
            raise UnsupportedError(other.problem)
        for name in ("format", "width", "height", "_path", "_pixels", "_content", "_masks"):
            setattr(self, name, getattr(other, name))
        self._notes = dict(vars(other)["_notes"])
        if self.caption is None:
            self.caption = other.caption

    def _take_array(self, given: Any, mode: Optional[str], wanted: str, normalize: bool) -> None:
        pixels = to_pixels(given, normalize)
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        if wanted in ("", "png") and (mode is None or _CHANNELS_OF_MODES.get(mode) == channels):
            self.format = "png"
            self._pixels = pixels
            self.height, self.width = pixels.shape[:2]
            return
        pil = needed("PIL.Image", "a picture of the mode %s as %s" % (mode or "natural", wanted or "png"))
        size = (pixels.shape[1], pixels.shape[0])
        if mode is not None and channels == len(pil.new(mode, (1, 1)).getbands()):
            self._take_pil(pil.frombytes(mode, size, pixels.tobytes()), None, wanted)
        else:
            self._take_pil(pil.fromarray(pixels), mode, wanted)

    def _take_pil(self, picture: Any, mode: Optional[str], wanted: str) -> None:
        file_type = wanted or "png"
        if mode is not None and picture.mode != mode:
            picture = picture.convert(mode)
        if file_type == "png" and picture.mode not in _PNG_MODES:
            picture = picture.convert("RGB")
        if file_type == "jpg" and picture.mode not in ("L", "RGB", "CMYK"):
            picture = picture.convert("RGB")
        self._save(
            lambda file: picture.save(file, {"jpg": "JPEG"}.get(file_type, file_type.upper())), file_type
        )

    def _save(self, save: Any, file_type: str) -> None:
        file = io.BytesIO()
        save(file)
        self._content = file.getvalue()
        self._look(self._content[:START_BYTES], file_type)

    def _look(self, start: bytes, name: str) -> None:
        """Note what the file's first bytes say, and where they say nothing, its name."""
        found = look_at(start)
        self.format = found.format or _FILE_TYPES.get(name, name)
        if not self.format:
            raise UnsupportedError("not a picture in a format that is known; file_type=… says which it is")
        if found.size is not None:
            self.width, self.height = found.size

    def _annotate(self, grouping: Optional[int], classes: Any, boxes: Any, masks: Any) -> None:
        if grouping is not None:
            self._notes["grouping"] = to_plain(grouping)
        if classes is not None:
            self._notes["classes"] = (classes if isinstance(classes, Classes) else Classes(classes)).as_list()
        if boxes:
            self._notes["boxes"] = annotations.boxes_of(boxes)
        if masks:
            self._masks = Masks(masks)

    def _encode(self, media: Media) -> Dict[str, Any]:
        if self._path is not None:
            data = media.copy("images", self.format, self._path)
        else:
            data = media.write("images", self.format, self._blocks())
        data["format"] = self.format
        if self.width is not None:
            data.update(width=self.width, height=self.height)
        if self.caption is not None:
            data["caption"] = self.caption
        data.update(self._notes)
        if self._masks is not None:
            data["masks"] = self._masks.encode(media)
        return data

    def _blocks(self) -> Iterable[bytes]:
        if self._content is not None:
            return [self._content]
        blocks: Iterator[bytes] = png_blocks(self._pixels)
        return blocks


def is_matplotlib(value: Any) -> bool:
    """Return whether value is matplotlib's: pyplot itself, a figure, axes or what is drawn on them."""
    if value is not None and value is sys.modules.get("matplotlib.pyplot"):
        return True
    return comes_from(value, "matplotlib") and (hasattr(value, "savefig") or hasattr(value, "figure"))


def figure_of(value: Any) -> Any:
    """Return the figure that something of matplotlib belongs to. Raise UnsupportedError where it is empty."""
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    if value is pyplot:
        if not pyplot.get_fignums():
            raise UnsupportedError("matplotlib has no open figure")
        value = pyplot.gcf()
    while not hasattr(value, "savefig") and getattr(value, "figure", None) is not None:
        value = value.figure
    if not hasattr(value, "savefig"):
        raise UnsupportedError("it is part of no matplotlib figure")
    return value
