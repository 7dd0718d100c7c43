"""Arrays of any library as NumPy's: torch and TensorFlow tensors, jax arrays, sequences."""

from typing import Any

from .._values import UnsupportedError
from .libraries import needed

#: An array may claim any shape at no cost (a broadcast one does); more than this is not walked through.
ELEMENTS_MAX = 2**31


def is_tensor(value: Any) -> bool:
    """Return whether value is a torch tensor, by what it can do."""
    kind = type(value)
    return all(hasattr(kind, name) for name in ("detach", "cpu", "numpy"))


def to_array(value: Any, what: str) -> Any:
    """Return a numpy.ndarray of bools, integers or floats. Raise UnsupportedError.

    A tensor on a GPU is waited for and copied from there.
    """
    numpy = needed("numpy", what)
    if is_tensor(value):
        value = _from_tensor(value)
    elif callable(getattr(type(value), "numpy", None)):  # TensorFlow
        value = value.numpy()
    array = numpy.asarray(value)
    if array.dtype.kind not in "biuf":
        array = _to_numbers(array, what)
    if array.size > ELEMENTS_MAX:
        raise UnsupportedError("%s of %d elements is too large" % (what, array.size))
    return array


def _from_tensor(tensor: Any) -> Any:
    tensor = tensor.detach()
    if getattr(tensor, "is_sparse", False):
        tensor = tensor.to_dense()
    if getattr(tensor, "is_quantized", False):
        tensor = tensor.dequantize()
    if tensor.is_floating_point() and tensor.element_size() <= 2:
        tensor = tensor.float()  # NumPy has no bfloat16 and no 8-bit floats
    tensor = tensor.cpu()
    for resolve in ("resolve_conj", "resolve_neg"):
        if hasattr(tensor, resolve):
            tensor = getattr(tensor, resolve)()
    return tensor.numpy()


def _to_numbers(array: Any, what: str) -> Any:
    # Complex numbers would lose half of themselves; texts and dates are no numbers.
    if array.dtype.kind in "OV":  # Python objects such as Decimal, ml_dtypes' bfloat16
        try:
            return array.astype("float64")
        except (TypeError, ValueError) as error:
            raise UnsupportedError("%s takes numbers: %s" % (what, error)) from error
    raise UnsupportedError("%s takes numbers, not an array of %s" % (what, array.dtype))
