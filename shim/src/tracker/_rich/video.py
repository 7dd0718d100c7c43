"""Video: a moving picture from frames, a file or its bytes."""

import io
import os
from typing import Any, Dict, List, Optional

from .._values import UnsupportedError, to_plain
from .arrays import to_array
from .libraries import needed
from .media import Media, as_path, extension_of
from .pixels import grid, to_bytes
from .value import RichValue

FORMATS = ("gif", "mp4", "webm", "ogg")
FPS = 4
#: What ffmpeg calls the codec that browsers expect in such a file.
_CODECS = {"mp4": "libx264", "webm": "libvpx-vp9"}


class Video(RichValue):
    """A moving picture, kept as a file: as it is where it was one, else as GIF or MP4."""

    _type = "video"

    def __init__(
        self,
        data_or_path: Any,
        caption: Any = None,
        fps: Optional[float] = None,
        format: Optional[str] = None,  # noqa: A002 - the name that scripts use
    ) -> None:
        """data_or_path: a file, its bytes, or frames x channels x height x width (and a batch of them).

        Frames are encoded here and now: GIF by PIL, other formats by imageio or moviepy, which start a
        program of theirs.
        """
        self.caption = None if caption is None else str(to_plain(caption))
        self.format = ""
        self._path: Optional[str] = None
        self._content = b""
        self._notes: Dict[str, Any] = {}
        with self._noting_problems():
            self._take(data_or_path, fps, (format or "").lower().lstrip("."))

    def _take(self, given: Any, fps: Optional[float], wanted: str) -> None:
        path = as_path(given)
        self.format = wanted or (extension_of(path) if path is not None else "gif")
        if self.format not in FORMATS:
            raise UnsupportedError("video is one of %s, not %r" % (", ".join(FORMATS), self.format))
        if path is not None:
            self._path = path
        elif isinstance(given, (bytes, bytearray, memoryview)):
            self._content = bytes(given)
        elif callable(getattr(given, "read", None)):
            self._content = given.read()
        else:
            self._take_frames(given, float(fps or FPS))

    def _take_frames(self, given: Any, fps: float) -> None:
        if self.format != "gif" and self.format not in _CODECS:
            raise UnsupportedError("frames become gif, mp4 or webm, not " + self.format)
        if not 0 < fps <= 1000:
            raise UnsupportedError("fps is more than 0 and at most 1000, not %s" % fps)
        frames = to_frames(given)
        count, height, width, _ = frames.shape
        self._notes = {"width": width, "height": height, "frames": count, "fps": fps}
        self._content = _gif(frames, fps) if self.format == "gif" else _movie(frames, fps, self.format)

    def _encode(self, media: Media) -> Dict[str, Any]:
        if self._path is not None:
            data = media.copy("videos", self.format, self._path)
        else:
            data = media.write("videos", self.format, [self._content])
        data["format"] = self.format
        data.update(self._notes)
        if self.caption is not None:
            data["caption"] = self.caption
        return data


def to_frames(given: Any) -> Any:
    """Return uint8 frames x height x width x 3 of (batch x) frames x channels x height x width."""
    numpy = needed("numpy", "video of an array")
    frames = to_array(given, "video of an array")
    if frames.ndim == 4:
        frames = frames[None]
    if frames.ndim != 5 or frames.shape[2] not in (1, 3, 4) or not frames.size:
        raise UnsupportedError(
            "video has the shape frames x channels (1, 3 or 4) x height x width, not %s"
            % (getattr(given, "shape", frames.shape),)
        )
    batch = to_bytes(frames).transpose(1, 0, 3, 4, 2)  # frames x batch x height x width x channels
    channels = batch.shape[-1]
    whole = numpy.stack([grid(list(pictures)) for pictures in batch])
    return numpy.repeat(whole, 3, axis=3) if channels == 1 else numpy.ascontiguousarray(whole[..., :3])


def _gif(frames: Any, fps: float) -> bytes:
    pil = needed("PIL.Image", "video of an array as GIF")
    pictures: List[Any] = [pil.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(
        file, "GIF", save_all=True, append_images=pictures[1:], duration=max(1, round(1000 / fps)), loop=0
    )
    return file.getvalue()


def _movie(frames: Any, fps: float, file_type: str) -> bytes:
    import tempfile  # which takes longer to import than all of this

    numpy = needed("numpy", "video of an array")
    # Coders store colours at half the size: an odd edge is doubled.
    odd = [(0, 0)] + [(0, size % 2) for size in frames.shape[1:3]] + [(0, 0)]
    frames = numpy.pad(frames, odd, mode="edge")
    directory = tempfile.mkdtemp(prefix="tracker-video-")
    path = os.path.join(directory, "video." + file_type)
    try:
        _write_movie(list(frames), fps, path, file_type)
        with open(path, "rb") as file:
            content = file.read()
        if not content:  # ffmpeg's own words are on the terminal
            raise UnsupportedError("ffmpeg wrote no %s; a build without that codec?" % file_type)
        return content
    finally:
        if os.path.exists(path):
            os.unlink(path)
        os.rmdir(directory)


def _write_movie(frames: List[Any], fps: float, path: str, file_type: str) -> None:
    what = "video of an array as " + file_type
    try:
        imageio = needed("imageio", what)
    except UnsupportedError:
        try:
            clips = needed("moviepy.video.io.ImageSequenceClip", what)
        except UnsupportedError as error:
            raise UnsupportedError(
                what + " needs imageio with its ffmpeg plugin, or moviepy: "
                "pip install imageio[ffmpeg]; or give the video as a file, or as format='gif'"
            ) from error
        clip = clips.ImageSequenceClip(frames, fps=fps)
        clip.write_videofile(path, codec=_CODECS[file_type], audio=False, logger=None)
        return
    # macro_block_size: it would resize the frames to a multiple of 16 otherwise.
    imageio.mimwrite(path, frames, fps=fps, codec=_CODECS[file_type], macro_block_size=2)
