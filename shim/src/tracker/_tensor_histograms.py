"""Counts the values of tensors into bins on the tensors' own devices, with one transfer per device.

On a GPU neither the least nor the greatest value is known here while the bins are filled: they stay there as
tensors, so that nothing waits for it but the one transfer at the end. In host memory, where nothing is to be
waited for, a third of the operations will do. Large tensors are gone through in parts, since a copy of a
large layer might not fit beside it.
"""

from typing import Any, Dict, List, NamedTuple, Tuple

BINS = 64
#: Values per part: 16 MiB as float32. Below 2**24, up to where float32 counts exactly.
PART_VALUES = 2**22
#: Devices whose values can be read without waiting.
READ_DIRECTLY = ("cpu",)
#: Wider ranges than this are scaled down: histc() multiplies by the number of bins, which must not overflow.
_WIDE = 1e36
_SCALE = 2.0**-10


class Counted(NamedTuple):
    """The values of one tensor."""

    least: float  #: of those that are finite; where all are the same, half less
    greatest: float
    counts: List[int]  #: in BINS bins of the same width
    not_finite: int  #: NaN and infinities


class Refused(NamedTuple):
    """A tensor whose values cannot be counted."""

    reason: str


def count_values(torch: Any, tensors: Dict[str, Any]) -> Dict[str, Any]:
    """Return Counted or Refused for each tensor by name; empty tensors are left out.

    Half precision is counted as float32, integers too, complex numbers by their magnitude; of a tensor
    sharded over processes, the part that is here.
    """
    found: Dict[str, Any] = {}
    by_device: Dict[Any, List[Tuple[str, Any, int, int]]] = {}
    with torch.no_grad():
        for name, tensor in tensors.items():
            try:
                values, zeros = _stored_values(torch, tensor)
                if values.device.type in READ_DIRECTLY:
                    if values.numel() + zeros:
                        found[name] = _count_directly(torch, values, zeros)
                elif values.numel() + zeros:
                    row = _row(torch, values, zeros)
                    by_device.setdefault(row.device, []).append((name, row, values.numel(), zeros))
            except Exception as error:  # noqa: BLE001, PERF203 - one strange tensor costs no other
                found[name] = Refused("%s: %s" % (type(error).__name__, str(error).split("\n")[0]))
        for of_device in by_device.values():
            rows = torch.stack([row for _, row, _, _ in of_device]).tolist()
            for (name, _, stored, zeros), row in zip(of_device, rows):
                found[name] = _counted(row, stored, zeros)
    return {name: found[name] for name in tensors if name in found}


def _stored_values(torch: Any, tensor: Any) -> Tuple[Any, int]:
    """Return the values that a tensor holds, flat and in any order, and how many zeros it implies besides."""
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):  # DTensor
        tensor = tensor.to_local()
    if tensor.device.type == "meta":
        raise ValueError("it has no values")
    zeros = 0
    if tensor.layout is not torch.strided:
        stored = tensor.coalesce() if tensor.is_sparse else tensor
        zeros = tensor.numel()
        tensor = stored.values()
        zeros -= tensor.numel()
    # Not reshape(-1) alone, which would copy a transposed or channels-last tensor.
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).reshape(-1), zeros


def _count_directly(torch: Any, values: Any, zeros: int) -> Counted:
    """Return what tensors in host memory hold."""
    least, greatest = (0.0, 0.0) if zeros else (float("inf"), float("-inf"))
    finite = zeros
    parts = values.split(PART_VALUES) if values.numel() else []
    for stored in parts:
        part = _real(torch, stored)
        lower, upper = float(part.min()), float(part.max())
        if lower - lower != 0 or upper - upper != 0:  # NaN or infinite
            some = part[torch.isfinite(part)]
            finite += some.numel()
            if not some.numel():
                continue
            lower, upper = float(some.min()), float(some.max())
        else:
            finite += part.numel()
        least, greatest = min(least, lower), max(greatest, upper)
    counts = [0] * BINS
    if least == greatest:
        counts[BINS // 2] = finite
        return Counted(least - 0.5, greatest + 0.5, counts, values.numel() + zeros - finite)
    if least > greatest:
        return Counted(0.0, 1.0, counts, values.numel())
    scale = _SCALE if greatest - least > _WIDE else 1
    for stored in parts:
        part = _real(torch, stored)
        part = part if scale == 1 else part * scale
        found = torch.histc(part, bins=BINS, min=least * scale, max=greatest * scale)
        counts = [former + int(count) for former, count in zip(counts, found.tolist())]
    not_finite = values.numel() + zeros - finite
    return _with_zeros(Counted(least, greatest, counts, not_finite), zeros)


def _row(torch: Any, values: Any, zeros: int) -> Any:
    """Return least and greatest of the finite values and BINS counts, as one tensor on their device."""
    parts = values.split(PART_VALUES) if values.numel() else [torch.zeros(1, device=values.device)]
    bounds = [_bounds(torch, _real(torch, part)) for part in parts]
    least = torch.stack([lower for lower, _ in bounds]).amin()
    greatest = torch.stack([upper for _, upper in bounds]).amax()
    if zeros:
        least, greatest = least.clamp(max=0), greatest.clamp(min=0)
    # Halves, since a difference of large values could overflow. All the same value: half a bin row around it.
    start, width = least / 2, greatest / 2 - least / 2
    same = width == 0
    start = start.where(~same, start - 0.25)
    width = width.where(~same, torch.full_like(width, 0.5))
    counts = torch.zeros(BINS, dtype=torch.int64, device=values.device)
    for part in parts if values.numel() else ():
        place = (_real(torch, part) / 2).sub_(start).div_(width).mul_(BINS)
        counts += _histc(torch, place)
    # MPS knows no float64; there counts beyond 2**24 are rounded.
    wide = torch.float32 if values.device.type == "mps" else torch.float64
    return torch.cat([torch.stack([least, greatest]).to(wide), counts.to(wide)])


def _real(torch: Any, part: Any) -> Any:
    """Return values as float64 where they are, else as float32."""
    if part.is_complex():
        part = (part.to(torch.complex64) if part.dtype == getattr(torch, "complex32", None) else part).abs()
    return part if part.dtype == torch.float64 else part.to(torch.float32)


def _bounds(torch: Any, part: Any) -> Tuple[Any, Any]:
    other = ~torch.isfinite(part)
    infinity = float("inf")
    return part.masked_fill(other, infinity).amin(), part.masked_fill(other, -infinity).amax()


def _histc(torch: Any, place: Any) -> Any:
    """Return how many values lie in each bin [n, n + 1), the last one closed; others, and NaN, in none."""
    deterministic = getattr(torch, "are_deterministic_algorithms_enabled", bool)
    if place.is_cuda and deterministic():
        # Refused there for floats, since they might be weights; not for integers.
        inside = (place >= 0) & (place <= BINS)
        bins = place.masked_fill(~inside, -1).floor_().clamp_(max=BINS - 1).to(torch.int32)
        return torch.histc(bins, bins=BINS, min=0, max=BINS - 1).to(torch.int64)
    return torch.histc(place, bins=BINS, min=0, max=BINS).to(torch.int64)


def _counted(row: List[float], stored: int, zeros: int) -> Counted:
    least, greatest = row[0], row[1]
    counts = [int(count) for count in row[2:]]
    not_finite = stored - sum(counts)
    if not least <= greatest:  # nothing is finite
        return Counted(0.0, 1.0, counts, not_finite)
    if least == greatest:
        least, greatest = least - 0.5, greatest + 0.5
    return _with_zeros(Counted(least, greatest, counts, not_finite), zeros)


def _with_zeros(counted: Counted, zeros: int) -> Counted:
    if zeros:
        place = -counted.least / (counted.greatest - counted.least)
        counted.counts[min(int(place * BINS), BINS - 1)] += zeros
    return counted
