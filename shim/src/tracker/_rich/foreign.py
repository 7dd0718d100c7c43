"""Objects of other libraries that are rich values by themselves: figures, pictures, data frames, arrays."""

from typing import Any, Optional

from .. import _loading
from .histogram import Histogram
from .html import Bokeh
from .image import Image, is_matplotlib
from .libraries import comes_from
from .plotly import Plotly
from .value import RichValue

#: An array with more elements than this is logged as a histogram, of so many bins.
ARRAY_ELEMENTS_MAX = 32
ARRAY_BINS = 32
_ARRAY_LIBRARIES = ("numpy", "torch", "jax", "jaxlib", "tensorflow", "cupy", "pandas", "mlx")


def as_rich(value: Any, arrays: bool = True) -> Optional[RichValue]:
    """Return the rich value that an object is or is logged as; None where it is none.

    arrays: whether a large array is a histogram.
    """
    if isinstance(value, RichValue):
        return value
    if is_matplotlib(value) or (comes_from(value, "seaborn") and hasattr(value, "figure")):
        return Image(value if hasattr(value, "savefig") or is_matplotlib(value) else value.figure)
    if comes_from(value, "PIL") and hasattr(value, "save") and hasattr(value, "mode"):
        return Image(value)
    if comes_from(value, "plotly") and hasattr(value, "to_plotly_json"):
        return Plotly(value)
    if comes_from(value, "bokeh") and hasattr(value, "select_one"):
        return Bokeh(value)
    if comes_from(value, "pandas") and hasattr(value, "iloc") and hasattr(value, "columns"):
        with _loading.lock:
            from .table import Table  # which needs this module

        return Table(dataframe=value)
    if arrays and any(comes_from(value, library) for library in _ARRAY_LIBRARIES) and _is_large(value):
        return Histogram(value, num_bins=ARRAY_BINS)
    return None


def _is_large(value: Any) -> bool:
    shape = getattr(value, "shape", None)
    if shape is None:
        return False
    elements = 1
    for length in tuple(shape):
        elements *= int(length)
    return elements > ARRAY_ELEMENTS_MAX
