"""Audio: sound from an array, as WAV, or from a file."""

import struct
from typing import Any, Dict, Iterator, Optional

from .._values import UnsupportedError, to_plain
from .arrays import is_tensor, to_array
from .libraries import needed
from .media import Media, as_path, extension_of
from .value import RichValue

#: RIFF counts its bytes with 32 bits.
WAV_BYTES_MAX = 2**32 - 64
#: More columns than this are samples lying the wrong way round.
CHANNELS_MAX = 32
_SAMPLES_PER_BLOCK = 2**18


class Audio(RichValue):
    """Sound, kept as a file: as it is where it was one, else as WAV."""

    _type = "audio"

    def __init__(self, data_or_path: Any, sample_rate: Optional[int] = None, caption: Any = None) -> None:
        """data_or_path: a file, or samples: one axis, or samples x channels.

        Floats from -1 to 1 become 16 bits; integers keep theirs (uint8, int16, int32).
        sample_rate: in Hz; needed for arrays.
        """
        self.caption = None if caption is None else str(to_plain(caption))
        self.sample_rate: Optional[int] = None
        self.duration: Optional[float] = None
        self._path: Optional[str] = None
        self._samples: Any = None
        with self._noting_problems():
            if sample_rate is not None:
                self.sample_rate = int(sample_rate)
            self._path = as_path(data_or_path)
            if self._path is None:
                self._take(data_or_path)

    def _take(self, given: Any) -> None:
        rate = self.sample_rate
        if rate is None or not 0 < rate < 2**31:
            raise UnsupportedError("sound of an array needs its sample_rate in Hz")
        samples = to_array(given, "sound of an array")
        if samples.ndim == 1:
            samples = samples[:, None]
        if samples.ndim != 2:
            raise UnsupportedError(
                "sound has the shape samples or samples x channels, not %s" % (samples.shape,)
            )
        if (is_tensor(given) or samples.shape[1] > CHANNELS_MAX) and samples.shape[0] <= CHANNELS_MAX:
            samples = samples.T  # as torchaudio has them
        if not 0 < samples.shape[1] <= CHANNELS_MAX:
            raise UnsupportedError("sound has 1 to %d channels, not %d" % (CHANNELS_MAX, samples.shape[1]))
        self._samples = _to_integers(samples)
        if self._samples.nbytes > WAV_BYTES_MAX:
            raise UnsupportedError("sound of %d bytes is too long for a WAV file" % self._samples.nbytes)
        self.duration = len(samples) / rate

    def _encode(self, media: Media) -> Dict[str, Any]:
        if self._path is not None:
            extension = extension_of(self._path)
            data = media.copy("audio", extension, self._path)
        else:
            extension = "wav"
            data = media.write("audio", extension, self._wav())
        data["format"] = extension
        for name in ("sample_rate", "duration", "caption"):
            value = getattr(self, name)
            if value is not None:
                data[name] = value
        return data

    def _wav(self) -> Iterator[bytes]:
        """Yield a WAV file: http://soundfile.sapp.org/doc/WaveFormat/."""
        samples, rate = self._samples, self.sample_rate
        assert rate is not None
        channels, width = samples.shape[1], samples.dtype.itemsize
        frame = channels * width
        padding = samples.nbytes % 2
        yield struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            b"RIFF", 36 + samples.nbytes + padding, b"WAVE",
            b"fmt ", 16, 1, channels, rate, rate * frame & 0xFFFFFFFF, frame, 8 * width,
            b"data", samples.nbytes,
        )  # fmt: skip
        rows = max(1, _SAMPLES_PER_BLOCK // channels)
        for start in range(0, len(samples), rows):
            block = samples[start : start + rows]
            yield block.astype(block.dtype.newbyteorder("<")).tobytes()
        yield bytes(padding)


def _to_integers(samples: Any) -> Any:
    """Return samples in a type that WAV has, as a copy."""
    numpy = needed("numpy", "sound of an array")
    if samples.dtype.kind == "f":
        finite = numpy.nan_to_num(samples.astype(numpy.float32), nan=0.0, posinf=1.0, neginf=-1.0)
        return (numpy.clip(finite, -1, 1) * 32767).round().astype(numpy.int16)
    if samples.dtype in (numpy.uint8, numpy.int16, numpy.int32):
        return samples.copy()
    if samples.dtype == numpy.int8:
        return (samples.astype(numpy.int16) + 128).astype(numpy.uint8)
    limits = numpy.iinfo(numpy.int32)
    return numpy.clip(samples, limits.min, limits.max).astype(numpy.int32)
