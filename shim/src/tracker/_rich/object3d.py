"""Object3D: a model from a file, or a cloud of points with boxes and vectors."""

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from .._logged import describe
from .._values import UnsupportedError, is_mapping, to_plain
from .arrays import to_array
from .libraries import needed
from .media import Media, as_path, extension_of
from .value import RichValue, warn

FORMATS = ("obj", "gltf", "glb", "babylon", "stl", "ply")
#: What the numbers of a point are, by how many there are.
COLUMNS = {3: ("x", "y", "z"), 4: ("x", "y", "z", "class"), 6: ("x", "y", "z", "r", "g", "b")}
#: Boxes, and vectors, of one cloud.
BOXES_MAX = 10000
_POINTS_PER_BLOCK = 2**16


class Object3D(RichValue):
    """A model, kept as the file that it was, or a cloud of points."""

    _type = "object3d"

    def __init__(self, data_or_path: Any, caption: Any = None, file_type: Optional[str] = None) -> None:
        """data_or_path: a file, an open file (with file_type), points x 3, 4 or 6 numbers, or a dict of
        "points", "boxes" and "vectors".
        """
        self.caption = None if caption is None else str(to_plain(caption))
        self._format = ""
        self._path: Optional[str] = None
        self._content: Optional[bytes] = None
        self._points: Any = None
        self._notes: Dict[str, Any] = {}
        with self._noting_problems():
            self._take(data_or_path, (file_type or "").lower().lstrip("."))

    @classmethod
    def from_file(cls, data_or_path: Any, file_type: Optional[str] = None) -> "Object3D":
        """Return the model in a file."""
        return cls(data_or_path, file_type=file_type)

    @classmethod
    def from_numpy(cls, data: Any) -> "Object3D":
        """Return the cloud of an array."""
        return cls(data)

    @classmethod
    def from_point_cloud(
        cls,
        points: Any,
        boxes: Any = (),
        vectors: Any = (),
        point_cloud_type: str = "lidar/beta",
    ) -> "Object3D":
        """Return a cloud with boxes and vectors."""
        return cls({"type": point_cloud_type, "points": points, "boxes": boxes, "vectors": vectors})

    def _take(self, given: Any, file_type: str) -> None:
        path = as_path(given)
        if path is not None or callable(getattr(given, "read", None)):
            self._format = file_type or extension_of(path or "")
            if self._format not in FORMATS:
                raise UnsupportedError(
                    "a model is one of %s, not %r; file_type=… says which"
                    % (", ".join(FORMATS), self._format)
                )
            self._path = path
            if path is None:
                content = given.read()
                self._content = content.encode("utf-8") if isinstance(content, str) else bytes(content)
            return
        self._format = "points"
        if is_mapping(given):
            self._points = _points(given["points"])
            for name in ("boxes", "vectors"):
                self._take_notes(name, given.get(name))
        else:
            self._points = _points(given)

    def _take_notes(self, name: str, given: Any) -> None:
        notes = to_plain(list(() if given is None else given))
        if notes:
            self._notes[name] = notes[:BOXES_MAX]
        if len(notes) > BOXES_MAX:
            self._notes["dropped_" + name] = len(notes) - BOXES_MAX

    def _encode(self, media: Media) -> Dict[str, Any]:
        if self._path is not None:
            data = media.copy("object3d", self._format, self._path)
        elif self._content is not None:
            data = media.write("object3d", self._format, [self._content])
        else:
            data = media.write("object3d", "f32", self._blocks())
            data["points"] = len(self._points)
            data["columns"] = list(COLUMNS[self._points.shape[1]])
        data["format"] = self._format
        data.update(self._notes)
        if self.caption is not None:
            data["caption"] = self.caption
        return data

    def _blocks(self) -> Iterator[bytes]:
        for start in range(0, len(self._points), _POINTS_PER_BLOCK):
            yield self._points[start : start + _POINTS_PER_BLOCK].tobytes()


def _points(given: Any) -> Any:
    """Return points x numbers as little-endian float32, a copy."""
    numpy = needed("numpy", "a cloud of points")
    array = to_array(given, "a cloud of points")
    if array.ndim != 2 or array.shape[1] not in COLUMNS:
        raise UnsupportedError("a cloud has the shape points x 3, 4 or 6, not %s" % (array.shape,))
    return numpy.array(array, "<f4", order="C")


def box3d(
    center: Sequence[float],
    size: Sequence[float],
    orientation: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
    color: Tuple[int, int, int] = (255, 255, 255),
    label: Optional[str] = None,
    score: Optional[float] = None,
) -> Dict[str, Any]:
    """Return a box for a cloud, with its corners; orientation is a quaternion (w, x, y, z).

    What is no such box is warned about, and comes back empty.
    """
    try:
        box: Dict[str, Any] = {"corners": _corners(center, size, orientation)}
        box["color"] = [int(part) for part in color]
        if label is not None:
            box["label"] = str(label)
        if score is not None:
            box["score"] = float(score)
    except Exception as error:  # noqa: BLE001 - the guard: a box must not stop a training
        warn("box3d", "box3d() failed: %s" % describe(error))
        return {}
    return box


def _corners(
    center: Sequence[float], size: Sequence[float], orientation: Sequence[float]
) -> List[List[float]]:
    w, x, y, z = (float(number) for number in orientation)
    length = (w * w + x * x + y * y + z * z) ** 0.5 or 1.0
    w, x, y, z = w / length, x / length, y / length, z / length
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    middle = [float(number) for number in center]
    half = [float(number) / 2 for number in size]
    corners: List[List[float]] = []
    for signs in ((a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)):
        offset = [sign * edge for sign, edge in zip(signs, half)]
        corners.append(
            [at + sum(part * along for part, along in zip(row, offset)) for at, row in zip(middle, rows)]
        )
    return corners
