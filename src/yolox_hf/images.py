# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Images in files, folders, videos and at URLs: found, and read one at a time."""

import io
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlparse
from urllib.request import urlopen

from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")


def list_images(sources: str | Path | Iterable[str | Path]) -> list[str]:
    """Files and URLs as they are, folders as the images in them and below them, sorted.

    Raises:
        OSError: there is no such file or folder, or no image in a folder.
        ImportError: there is a video and PyAV is not installed.
    """
    names: list[str] = []
    for source in [sources] if isinstance(sources, (str, Path)) else sources:
        path = Path(source)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise OSError(f"The folder {path} holds no images ({', '.join(IMAGE_SUFFIXES)}).")
            names += map(str, inside)
        elif is_url(str(source)) or path.is_file():
            names.append(str(source))
        else:
            raise OSError(f"There is no file or folder at {path}.")
    if any(map(is_video, names)):
        _import_av()
    return names


def is_url(name: str) -> bool:
    return urlparse(name).scheme in ("http", "https")


def is_video(name: str) -> bool:
    return not is_url(name) and Path(name).suffix.lower() in VIDEO_SUFFIXES


def read_image(source: str | Path) -> Image.Image:
    """Read an image file or URL, and turn it upright as its EXIF data says.

    Raises:
        OSError: it cannot be fetched or decoded.
    """
    try:
        file: Any = source
        if is_url(str(source)):
            with urlopen(str(source), timeout=30) as response:
                file = io.BytesIO(response.read())
        with Image.open(file) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except UnidentifiedImageError:
        raise OSError("it is no image of a format that Pillow knows") from None
    except Exception as error:  # over broken bytes, Pillow's parsers and urllib's raise whatever they like
        raise OSError(first_line(error)) from error


def image_readers(names: Iterable[str]) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    """For each image its name and a function that reads it or raises OSError."""
    for name in names:
        if is_video(name):
            yield from _frame_readers(name)
        else:
            yield name, partial(read_image, name)


def _frame_readers(path: str) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    av = _import_av()
    try:
        with av.open(path) as container:
            for index, frame in enumerate(container.decode(video=0)):
                yield f"{path}#{index:06}", partial(_upright, frame)
    except (av.FFmpegError, IndexError) as error:  # IndexError: it has no pictures, only sound
        yield path, partial(_fail, first_line(error))


def _upright(frame) -> Image.Image:
    """A frame of a video as it is to be shown: telephones record lying down, and note by how much."""
    return frame.to_image().rotate(frame.rotation, expand=True)


def _fail(message: str) -> NoReturn:
    raise OSError(message)


def _import_av():
    try:
        import av
    except ImportError:
        raise ImportError('Videos need PyAV: `pip install "yolox-hf[video]"`.') from None
    return av


def first_line(error: BaseException) -> str:
    """What an error says, or its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
