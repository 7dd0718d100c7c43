"""Arrays as pixels: which axis is what, and which numbers are black and white."""

from typing import Any, List

from .._values import UnsupportedError
from .arrays import is_tensor, to_array
from .libraries import needed

CHANNELS = (1, 2, 3, 4)
#: A batch of tensors becomes one picture, so many beside each other, so many pixels apart.
GRID_COLUMNS = 8
GRID_GAP = 2


def to_pixels(value: Any, normalize: bool = True) -> Any:
    """Return a new uint8 array, height x width or height x width x channels.

    A torch tensor is channels x height x width, and with one axis more a batch, which becomes a grid.
    Other arrays have their channels last (or first, where the last axis cannot be channels).
    """
    array = to_array(value, "a picture of an array")
    if is_tensor(value):
        array = _from_channels_first(array)
    elif array.ndim > 2:
        array = _squeezed(array)
        if array.ndim == 3 and array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS:
            array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS) or not array.size:
        raise UnsupportedError(
            "an array of the shape %s is no picture: height x width, or with 1 to 4 channels behind"
            % (getattr(value, "shape", array.shape),)
        )
    return to_bytes(array, normalize)


def to_bytes(array: Any, normalize: bool = True) -> Any:
    """Return numbers as uint8, a copy: numbers up to 1 times 255, others as they are, cut at 0 and 255.

    Where there are negative ones, all are first stretched from their least and greatest to 0 … 1.
    """
    numpy = needed("numpy", "a picture of an array")
    if array.dtype == bool:
        return array.astype(numpy.uint8) * 255
    if array.dtype == numpy.uint8 and (not normalize or array.max() > 1):
        return array.copy()
    if array.dtype.kind == "f":
        array = _finite(numpy, array)
    if normalize:
        least, greatest = array.min(), array.max()
        if least < 0:
            width = float(greatest) - float(least)
            array = (array.astype(numpy.float64) - float(least)) / (width or 1.0)
            greatest = array.max()
        if greatest <= 1:
            array = (array if array.dtype.kind == "f" else array.astype(numpy.float32)) * 255
    return numpy.clip(array, 0, 255).astype(numpy.uint8)


def _finite(numpy: Any, array: Any) -> Any:
    """Return floats with 0 for NaN, and the least and the greatest finite number for infinities."""
    finite = numpy.isfinite(array)
    array = array.astype(numpy.float32 if array.dtype.itemsize < 4 else array.dtype)
    if finite.all():
        return array
    some = array[finite]
    array[numpy.isnan(array)] = 0
    array[array == numpy.inf] = some.max() if some.size else 1
    array[array == -numpy.inf] = some.min() if some.size else 0
    return array


def _squeezed(array: Any) -> Any:
    """Return an array without leading axes of length 1, as long as it has more than a picture needs."""
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in CHANNELS:
        array = array[0]
    return array


def _from_channels_first(array: Any) -> Any:
    if array.ndim == 4:
        array = grid(list(array.transpose(0, 2, 3, 1)))
    elif array.ndim == 3 and (array.shape[0] in CHANNELS or array.shape[2] not in CHANNELS):
        array = array.transpose(1, 2, 0)
    return array


def grid(pictures: List[Any]) -> Any:
    """Return pictures of one size (height x width x channels) side by side, in rows, on 0."""
    numpy = needed("numpy", "a grid of pictures")
    if len(pictures) == 1:
        return pictures[0]
    height, width, channels = pictures[0].shape
    columns = min(GRID_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    pitch_y, pitch_x = height + GRID_GAP, width + GRID_GAP
    whole = numpy.zeros(
        (rows * pitch_y + GRID_GAP, columns * pitch_x + GRID_GAP, channels), pictures[0].dtype
    )
    for number, picture in enumerate(pictures):
        y = GRID_GAP + number // columns * pitch_y
        x = GRID_GAP + number % columns * pitch_x
        whole[y : y + height, x : x + width] = picture
    return whole
