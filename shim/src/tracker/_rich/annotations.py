"""What may lie over a picture: classes by number, boxes, masks."""

from typing import Any, Dict, List, Optional

from .._values import UnsupportedError, is_mapping, to_plain
from .arrays import to_array
from .libraries import needed
from .media import Media, as_path, extension_of
from .png import png_blocks

#: Of one group; further ones are counted.
BOXES_MAX = 10000


class Classes:
    """Numbers and names of the classes that boxes and masks refer to: [{"id": 0, "name": "cat"}, …]."""

    def __init__(self, class_set: Any) -> None:
        plain = to_plain(class_set)
        self._class_set: List[Any] = plain if isinstance(plain, list) else [plain]

    def as_list(self) -> List[Any]:
        """Return what it was made of, as plain data."""
        return list(self._class_set)


class Masks:
    """Masks by the name of their group; their pixels are copied."""

    def __init__(self, masks: Any) -> None:
        """masks: {group: {"mask_data": array of class numbers, or "path": file; "class_labels": {…}}}."""
        self._groups: Dict[str, Dict[str, Any]] = {}
        for group, mask in _items(masks, "masks"):
            kept: Dict[str, Any] = {"classes": _class_labels(mask)}
            path = as_path(mask.get("path"))
            if path is not None:
                kept["from"] = path
            else:
                kept["pixels"] = _mask_pixels(mask.get("mask_data"))
            self._groups[group] = kept

    def encode(self, media: Media) -> Dict[str, Any]:
        """Return the masks as records have them, having written their files."""
        return {group: self._encode_one(media, mask) for group, mask in self._groups.items()}

    def _encode_one(self, media: Media, mask: Dict[str, Any]) -> Dict[str, Any]:
        if "from" in mask:
            data = media.copy("masks", extension_of(mask["from"]) or "png", mask["from"])
        else:
            data = media.write("masks", "png", png_blocks(mask["pixels"]))
        if mask["classes"]:
            data["classes"] = mask["classes"]
        return data


def boxes_of(boxes: Any) -> Dict[str, Any]:
    """Return boxes by group as plain data.

    boxes: {group: {"box_data": [{"position": …, "class_id": …, …}, …], "class_labels": {…}}}.
    """
    groups: Dict[str, Any] = {}
    for group, given in _items(boxes, "boxes"):
        box_data = to_plain(list(given.get("box_data") or [])[: BOXES_MAX + 1])
        if not all(isinstance(box, dict) for box in box_data):
            raise UnsupportedError("boxes: box_data is a list of dicts")
        groups[group] = {"boxes": box_data[:BOXES_MAX]}
        dropped = len(given.get("box_data") or []) - BOXES_MAX
        if dropped > 0:
            groups[group]["dropped"] = dropped
        labels = _class_labels(given)
        if labels:
            groups[group]["classes"] = labels
    return groups


def _mask_pixels(mask_data: Any) -> Any:
    if mask_data is None:
        raise UnsupportedError("masks: a mask has mask_data or a path")
    numpy = needed("numpy", "a mask")
    array = to_array(mask_data, "a mask")
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):
        array = array[..., 0] if array.shape[-1] == 1 else array[0]
    if array.ndim != 2 or not array.size:
        raise UnsupportedError("masks: mask_data has the shape %s, not height x width" % (array.shape,))
    least, greatest = array.min(), array.max()
    if least < 0 or greatest > 65535:
        raise UnsupportedError("masks: class numbers are 0 to 65535, not %s to %s" % (least, greatest))
    return array.astype(numpy.uint8 if greatest < 256 else numpy.uint16)


def _items(groups: Any, what: str) -> List[Any]:
    if not is_mapping(groups) or not all(is_mapping(groups[group]) for group in groups):
        raise UnsupportedError("%s is a dict of dicts, by the names of groups" % what)
    return [(str(group), groups[group]) for group in groups]


def _class_labels(group: Any) -> Optional[Dict[str, str]]:
    labels = group.get("class_labels") or {}
    return {str(number): str(to_plain(labels[number])) for number in labels}
