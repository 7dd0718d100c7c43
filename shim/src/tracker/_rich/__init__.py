"""Rich values: what log() takes besides numbers and text. Loaded when the first one is made or logged.

One module for each; media.py writes their files, docs/record-format.md describes their records.
"""

from typing import Any, Dict, List, Optional

from .annotations import Classes
from .audio import Audio
from .chart import Chart
from .foreign import as_rich
from .histogram import Histogram
from .html import Bokeh, Html
from .image import Image
from .media import Media, StorageError
from .molecule import Molecule
from .object3d import Object3D, box3d
from .plotly import Plotly
from .table import JoinedTable, Table
from .value import ITEMS_MAX, Encoded, RichList, RichValue
from .video import Video

__all__ = [
    "Audio",
    "Bokeh",
    "Chart",
    "Classes",
    "Encoded",
    "Histogram",
    "Html",
    "Image",
    "JoinedTable",
    "Media",
    "Molecule",
    "Object3D",
    "Plotly",
    "RichValue",
    "StorageError",
    "Table",
    "Video",
    "box3d",
    "encode",
    "find",
    "to_summary",
]


def find(value: Any) -> Optional[RichValue]:
    """Return the rich value that an object is or is logged as, lists of them among these; None where none."""
    return as_rich(value) or _as_list(value)


def encode(value: Any, media: Media) -> Optional[Encoded]:
    """Return what a VALUE record says of an object, having written its files; None where it is no rich value.

    Raise UnsupportedError for one that cannot be recorded, StorageError where a file cannot be written,
    or whatever foreign code raises.
    """
    rich = find(value)
    return None if rich is None else rich.to_record(media)


def to_summary(value: Any, directory: str, name: str) -> Optional[Dict[str, Any]]:
    """Return a rich value as the summary holds it, having written its files below the run's directory.

    None where it is no rich value. Raises what encode does.
    """
    encoded = encode(value, Media(directory, name, 0))
    return None if encoded is None else encoded.in_a_map()


def _as_list(value: Any) -> Optional[RichList]:
    """Return a list or tuple of rich values as one; None where no item is one."""
    if not isinstance(value, (list, tuple)):
        return None
    items: List[RichValue] = []
    for item in value[:ITEMS_MAX]:
        rich = as_rich(item, arrays=False)
        if rich is None:
            # Numbers among pictures would lose their place: such a list is refused as a whole.
            return None
        items.append(rich)
    return RichList(items, len(value) - len(items)) if items else None
