"""Table and JoinedTable: rows and columns of anything, rich values among it."""

from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from .._values import UnsupportedError, to_plain
from .cells import to_list
from .libraries import needed
from .media import Media
from .table_file import encode_table
from .value import RichValue, warn

_DEFAULT_COLUMNS = ("Input", "Output", "Expected")
LOG_MODES = ("IMMUTABLE", "MUTABLE", "INCREMENTAL")


class Table(RichValue):
    """Columns with names and any number of rows.

    What a data frame or an array gave stays in its columns; rows that are added come behind.
    """

    _type = "table"
    #: Set by scripts that want more rows. There is no such limit here.
    MAX_ROWS = 10000
    MAX_ARTIFACT_ROWS = 200000

    def __init__(
        self,
        columns: Optional[Sequence[Any]] = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        dtype: Any = None,  # noqa: ARG002
        optional: Any = True,  # noqa: ARG002
        allow_mixed_types: bool = False,  # noqa: ARG002
        log_mode: Optional[str] = "IMMUTABLE",
    ) -> None:
        """Take data or rows: a list of rows, a two-dimensional array or a pandas data frame.

        dtype, optional and allow_mixed_types are accepted: every column takes every type. log_mode:
        every log() keeps all rows; with "INCREMENTAL" those that are new since the log() before.
        """
        self.columns: List[str] = []
        self.log_mode = log_mode if log_mode in LOG_MODES else "IMMUTABLE"
        self._base: List[Any] = []  # a column each, all of one length
        self._rows: List[List[Any]] = []  # behind these
        self._dropped = 0
        self._logged_rows = 0
        with self._noting_problems():
            # Any sequence: arrays have no truth value.
            self.columns = [str(to_plain(name)) for name in (() if columns is None else columns)]
            self._take(data if data is not None else rows, dataframe, columns is not None)

    def _take(self, data: Any, dataframe: Any, named: bool) -> None:
        if dataframe is None and hasattr(data, "iloc") and hasattr(data, "columns"):
            dataframe = data
        if dataframe is not None:
            self.columns = [str(to_plain(name)) for name in dataframe.columns]
            self._base = [_column_of(dataframe.iloc[:, at]) for at in range(len(self.columns))]
        elif hasattr(data, "dtype") and len(getattr(data, "shape", ())) == 2:
            self._name_columns(data.shape[1], named)
            self._base = [data[:, at].copy() for at in range(data.shape[1])]
        else:
            given = [_to_row(row) for row in ([] if data is None else data)]
            self._name_columns(len(given[0]) if given else None, named)
            wrong = [len(row) for row in given if len(row) != len(self.columns)]
            if wrong:
                raise UnsupportedError(
                    "a table of %d columns got %d rows of another length, such as %d"
                    % (len(self.columns), len(wrong), wrong[0])
                )
            self._rows = given

    def _name_columns(self, width: Optional[int], named: bool) -> None:
        if not named:
            default = width is None or width == len(_DEFAULT_COLUMNS)
            self.columns = list(_DEFAULT_COLUMNS) if default else [str(at) for at in range(width or 0)]
        elif width is not None and width != len(self.columns):
            raise UnsupportedError("%d columns are named, the data has %d" % (len(self.columns), width))

    @property
    def data(self) -> List[List[Any]]:
        """All rows, as a list that may be changed."""
        if self._base:
            columns = [to_list(column) for column in self._base]
            self._rows[:0] = [list(row) for row in zip(*columns)]
            self._base = []
        return self._rows

    def add_data(self, *data: Any) -> None:
        """Add a row: a cell for each column."""
        if len(data) != len(self.columns):
            self._dropped += 1
            warn(
                "table",
                "a row of %d cells was not added to a table of %d columns" % (len(data), len(self.columns)),
            )
            return
        self._rows.append(list(data))

    def add_row(self, *row: Any) -> None:
        """Add a row."""
        self.add_data(*row)

    def add_column(self, name: Any, data: Any, optional: bool = False) -> None:  # noqa: ARG002
        """Add a column: a list or array with a cell for each row."""
        try:
            if hasattr(data, "iloc"):
                column = _column_of(data)
            else:
                is_array = hasattr(data, "dtype") and hasattr(data, "copy")
                column = data.copy() if is_array else list(data)
            had_columns = bool(self.columns) and bool(self._base or self._rows)
            if had_columns and len(column) != self._count():
                raise UnsupportedError(
                    "a column of %d cells does not fit a table of %d rows" % (len(column), self._count())
                )
            self._fold()
            self._base = (self._base if had_columns else [[] for _ in self.columns]) + [column]
            if not had_columns and self.columns and len(column):
                self._base = [[None] * len(column) for _ in self.columns] + [column]
            self.columns.append(str(to_plain(name)))
        except Exception as error:  # noqa: BLE001 - the guard: a table must not stop a training
            self._dropped += 1
            warn("table", "add_column() failed: %s" % (error,))

    def add_computed_columns(self, fn: Callable[[int, Dict[str, Any]], Dict[str, Any]]) -> None:
        """Add the columns that a function returns as a dict, given a row's number and its cells by name."""
        added: Dict[str, List[Any]] = {}
        for number, row in self.iterrows():
            for name, cell in fn(number, dict(zip(self.columns, row))).items():
                added.setdefault(name, []).append(cell)
        for name, column in added.items():
            self.add_column(name, column)

    def get_column(self, name: str, convert_to: Optional[str] = None) -> Any:
        """Return a column as a list, or as an array with convert_to="numpy"; empty where there is none."""
        self._fold()
        if name not in self.columns:
            warn("table", "get_column(): the table has no column %s" % (name,))
        column = self._base[self.columns.index(name)] if self._base and name in self.columns else []
        if convert_to == "numpy":
            return needed("numpy", "a column as an array").array(column)
        return to_list(column)

    def get_index(self) -> List[int]:
        """Return the numbers of the rows."""
        return list(range(self._count()))

    def get_dataframe(self) -> Any:
        """Return the table as a pandas data frame. Raise UnsupportedError where there is no pandas."""
        return needed("pandas", "a table as a data frame").DataFrame(self.data, columns=self.columns)

    def iterrows(self) -> Iterator[Tuple[int, List[Any]]]:
        """Yield the number and the cells of each row."""
        return iter(list(enumerate(self.data)))

    def _count(self) -> int:
        return (len(self._base[0]) if self._base else 0) + len(self._rows)

    def _fold(self) -> None:
        """Take rows into columns."""
        if self._rows or not self._base:
            if self._base:
                rows = [list(column) for column in zip(*self._rows)]
                self._base = [to_list(base) + more for base, more in zip(self._base, rows)]
            else:
                self._base = [list(column) for column in zip(*self._rows)]
            self._rows = []

    def _encode(self, media: Media) -> Dict[str, Any]:
        for row in self._rows:
            if len(row) != len(self.columns):  # whoever changed `data`
                raise UnsupportedError(
                    "a table of %d columns has a row of %d" % (len(self.columns), len(row))
                )
        rows = self._count()
        start = self._logged_rows if self.log_mode == "INCREMENTAL" else 0
        data = encode_table(self.columns, self._parts(), min(start, rows), media)
        if self.log_mode != "IMMUTABLE":
            data["log_mode"] = self.log_mode
        if self.log_mode == "INCREMENTAL":
            data["from"] = start
        if self._dropped:
            data["dropped"] = self._dropped
        self._logged_rows = rows
        return data

    def _parts(self) -> List[Any]:
        """Return what encodes as columns, without making them of rows."""
        if self._base and self._rows:
            return [_Joined(base, _Column(self._rows, at)) for at, base in enumerate(self._base)]
        if self._base:
            return self._base
        return [_Column(self._rows, at) for at in range(len(self.columns))]


class _Column:
    """A column of a list of rows; only what is sliced out of it is ever made."""

    def __init__(self, rows: List[List[Any]], at: int) -> None:
        self._rows = rows
        self._at = at

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice) -> List[Any]:
        at = self._at
        return [row[at] for row in self._rows[part]]


class _Joined:
    """Two columns, one behind the other."""

    def __init__(self, first: Any, second: _Column) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, part: slice) -> List[Any]:
        start, stop, _ = part.indices(len(self))
        edge = len(self._first)
        first = to_list(self._first[start : min(stop, edge)]) if start < edge else []
        second = self._second[max(0, start - edge) : stop - edge] if stop > edge else []
        return first + second


class JoinedTable(RichValue):
    """Two tables that belong together where a column of both is equal."""

    _type = "joined_table"

    def __init__(self, table1: Any, table2: Any, join_key: Any) -> None:
        """join_key: the column's name in both tables, or the two names."""
        with self._noting_problems():
            if not isinstance(table1, Table) or not isinstance(table2, Table):
                raise UnsupportedError("a joined table is made of two tables")
            self._tables = (table1, table2)
            self._key = to_plain(join_key)

    def _encode(self, media: Media) -> Dict[str, Any]:
        tables = [table.to_record(media).data for table in self._tables]
        return {"tables": tables, "key": self._key}


def _column_of(series: Any) -> Any:
    """Return a pandas series as an array. As a copy: it may change before this is logged."""
    missing = series.isna().to_numpy()
    nullable = not type(series.dtype).__module__.startswith("numpy")  # Int64 would become float64, NA NaN
    column = (series.astype(object) if nullable and missing.any() else series).to_numpy(copy=True)
    if column.dtype.kind == "O":
        column[missing] = None  # NaN among texts is nothing, not a number
    return column


def _to_row(row: Any) -> List[Any]:
    if isinstance(row, (str, bytes)):
        raise UnsupportedError("a row of a table is a list of cells, not text")
    return list(row)
