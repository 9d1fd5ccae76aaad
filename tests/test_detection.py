# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Detecting in many images: order, memory, errors, and that nothing changes what is found."""

import inspect
import shutil
import struct
import sys
import threading
import time
import weakref
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor, detection
from yolox_hf import images as image_files
from yolox_hf.cards import DEMO_MODEL
from yolox_hf.detection import Detector, describe
from yolox_hf.images import list_images, read_image
from yolox_hf.scenes import render_scene

# Width and height of the photos. The demo model's input is 256 x 320, height x width.
SIZES = [(192, 128), (192, 128), (128, 192), (192, 128), (128, 192)]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(DEMO_MODEL, device="cpu", threshold=0.3)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, (width, height) in enumerate(SIZES):
        render_scene(0, index, width, height)[0].save(folder / f"{index}.png")
    return folder


def assert_same(result: dict, expected: dict, tolerance: float = 0.0) -> None:
    """Two results of one image; `tolerance` in pixels, and a hundredth of it for the scores."""
    assert result["labels"].tolist() == expected["labels"].tolist()
    torch.testing.assert_close(result["boxes"], expected["boxes"], rtol=0, atol=tolerance)
    torch.testing.assert_close(result["scores"], expected["scores"], rtol=0, atol=tolerance / 100)


# ---- streams


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_stream_gives_what_calls_give_in_order(detector, photos, workers):
    images = [read_image(photos / f"{index}.png") for index in range(len(SIZES))]
    expected = detector(images[:2]) + detector(images[2:4]) + detector(images[4:])
    assert sum(len(result["scores"]) for result in expected) > 5
    seen = list(detector.stream(photos, batch_size=2, workers=workers))
    assert [name for name, _, _ in seen] == [str(photos / f"{index}.png") for index in range(len(SIZES))]
    for (_, image, result), original, single in zip(seen, images, expected, strict=True):
        assert image == original
        assert_same(result, single)


def test_what_cannot_be_read_is_an_error_in_its_place(detector, photos):
    (photos / "0.png").write_bytes(b"no picture")
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes()[:900])
    seen = list(detector.stream(photos, batch_size=3))
    assert [index for index, (_, image, _) in enumerate(seen) if image is None] == [0, 2]
    for index, message in ((0, "no image of a format that Pillow knows"), (2, "truncated")):
        assert isinstance(seen[index][2], OSError) and message in str(seen[index][2])
    (expected,) = detector([seen[1][1]])
    assert_same(seen[1][2], expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_reads_one_batch_ahead(detector, photos, monkeypatch, workers):
    alive: list = []
    read = 0

    def counting(source):
        nonlocal read
        image = read_image(source)
        alive.append(None)
        weakref.finalize(image, alive.pop)
        read += 1
        return image

    monkeypatch.setattr(image_files, "read_image", counting)
    most_ahead = most_alive = 0
    for done, (_, image, _) in enumerate(detector.stream([photos / "0.png"] * 60, 4, workers=workers)):
        most_ahead, most_alive = max(most_ahead, read - done), max(most_alive, len(alive))
        del image
    assert read == 60
    assert most_ahead <= (4 if workers == 0 else 4 + 4 + 1)
    assert most_alive <= 12


def test_a_stream_that_is_left_reads_no_more(detector, photos, monkeypatch):
    read = []

    def slowly(source):
        time.sleep(0.05)
        read.append(source)
        return read_image(source)

    monkeypatch.setattr(image_files, "read_image", slowly)
    monkeypatch.setattr(detector, "_detect", lambda _, images: [{}] * len(images))
    before = threading.active_count()
    stream = detector.stream([photos / "0.png"] * 50, 6, workers=1)
    next(stream)
    assert threading.active_count() == before + 1
    so_far = len(read)
    stream.close()
    assert threading.active_count() == before and len(read) <= so_far + 2


def test_rectangular_batches_are_those_of_a_smaller_input(detector, photos):
    shapes = []
    hook = detector.model.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    seen = list(detector.stream(photos, batch_size=5, rectangular=True))
    hook.remove()
    assert shapes == [(3, 3, 224, 320), (2, 3, 256, 192)]
    for (_, image, result), (width, height) in zip(seen, SIZES, strict=True):
        size = dict(zip(("height", "width"), (224, 320) if width > height else (256, 192)))
        with torch.no_grad():
            outputs = detector.model(**detector.processor(image, return_tensors="pt", size=size))
        options = {"target_sizes": [(height, width)], "size": size}
        (expected,) = detector.processor.post_process_object_detection(outputs, 0.3, **options)
        assert_same(result, expected, 0.01)
        (called,) = Detector(DEMO_MODEL, tuple(size.values()), "cpu", threshold=0.3)([image])
        assert_same(called, expected, 0.01)


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns"),
    [
        (1, 1000, 256, 32),
        (1000, 1, 32, 320),
        (416, 417, 256, 256),
        (1333, 800, 224, 320),
        (640, 480, 256, 320),
        (147, 100, 224, 320),  # 147 * (320 / 147) is a rounding above 320
        (273, 364, 256, 192),
    ],
)
def test_a_rectangle_keeps_every_pixel_of_the_letterbox(detector, width, height, rows, columns):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))
    letterbox = detector.processor(image, return_tensors="pt")["pixel_values"]
    rectangle = detector.processor(image, return_tensors="pt", size=detector._rectangle(image))["pixel_values"]
    assert rectangle.shape[-2:] == (rows, columns)
    assert torch.equal(rectangle, letterbox[..., :rows, :columns])
    outside = letterbox.clone()
    outside[..., :rows, :columns] = 114
    assert (outside == 114).all()


@pytest.mark.parametrize(("options", "message"), [({"batch_size": 0}, "`batch_size`"), ({"workers": -1}, "`workers`")])
def test_stream_refuses_at_once(detector, photos, options, message):
    with pytest.raises(ValueError, match=f"{message} must be at least .*, got {next(iter(options.values()))}"):
        detector.stream(photos, **options)
    with pytest.raises(OSError, match="no file or folder at absent"):
        detector.stream("absent.jpg")


# ---- models


def test_a_loaded_model_is_taken_as_it_is(detector, photos):
    model = YoloxForObjectDetection.from_pretrained(DEMO_MODEL).eval()
    processor = YoloxImageProcessor.from_pretrained(DEMO_MODEL)
    loaded = Detector(model, processor=processor, threshold=0.3)
    assert loaded.model is model
    for (_, _, result), (_, _, expected) in zip(loaded.stream(photos), detector.stream(photos), strict=True):
        assert_same(result, expected, 0.01)
    with pytest.raises(TypeError, match="`processor` must be given"):
        Detector(model)
    with pytest.raises(ValueError, match="`device` nonsense cannot be used"):
        Detector(model, processor=processor, device="nonsense")
    with pytest.raises(ValueError, match="`image_size` must be multiples of 32, got 100 64"):
        Detector(model, (100, 64), processor=processor)


def test_a_model_in_half_precision_gets_its_dtype(detector, photos):
    model = YoloxForObjectDetection.from_pretrained(DEMO_MODEL).eval().to(torch.bfloat16)
    half = Detector(model, processor=detector.processor, threshold=0.3)
    image = read_image(photos / "0.png")
    (result,), (expected,) = half([image]), detector([image])
    assert result["scores"].dtype == torch.float32
    assert_same({**result, "scores": expected["scores"]}, expected, 4.0)


def test_an_exported_folder_runs_on_its_runtime(detector, photos, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from yolox_hf.export import YoloxExportedForObjectDetection, export_model

    exported = Detector(export_model(DEMO_MODEL, tmp_path / "exported"), threshold=0.3)
    assert isinstance(exported.model, YoloxExportedForObjectDetection)
    for rectangular in (False, True):
        expected = detector.stream(photos, rectangular=rectangular)
        for (_, _, result), (_, _, other) in zip(
            exported.stream(photos, rectangular=rectangular), expected, strict=True
        ):
            assert_same(result, other, 0.02)


# ---- images


def test_list_images(photos, tmp_path):
    (photos / "deeper").mkdir()
    shutil.copy(photos / "0.png", photos / "deeper" / "a.JPG")
    (photos / "notes.txt").write_text("no image")
    url = "https://example.com/photo"
    names = [*(str(photos / f"{index}.png") for index in range(5)), str(photos / "deeper" / "a.JPG")]
    assert list_images(photos) == list_images(str(photos)) == sorted(names)
    assert list_images([url, photos / "1.png"]) == [url, str(photos / "1.png")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match=r"holds no images \(.jpg"):
        list_images(tmp_path / "empty")


def test_images_are_turned_upright_and_keep_16_bits(detector, photos, tmp_path):
    upright = read_image(photos / "0.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png").tobytes() == upright.tobytes()
    levels = np.asarray(upright.convert("L"))
    Image.fromarray(levels).save(tmp_path / "gray.png")
    Image.fromarray(levels.astype(np.uint16) << 8).save(tmp_path / "gray16.png")
    gray, gray16 = (detector.processor(read_image(tmp_path / name)) for name in ("gray.png", "gray16.png"))
    assert torch.equal(gray["pixel_values"], gray16["pixel_values"])


def test_urls(detector, photos):
    (photos / "page.png").write_text("<html>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=photos)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        names = [f"{root}/0.png", f"{root}/absent.png", f"{root}/page.png", f"{root}/bad path.png"]
        seen = list(detector.stream(names))
        server.shutdown()
    assert [name for name, _, _ in seen] == names
    (expected,) = detector([read_image(photos / "0.png")])
    assert_same(seen[0][2], expected)
    for (_, image, error), message in zip(seen[1:], ("404", "no image of a format", "bad path")):
        assert image is None and message in str(error)
    with pytest.raises(OSError, match="refused"):
        read_image(f"{root}/0.png")


def test_describe():
    result = {
        "labels": torch.tensor([1]),
        "scores": torch.tensor([0.123456]),
        "boxes": torch.tensor([[1.234, 2, 3, 4.567]]),
    }
    assert describe(result, {1: "dog"}) == [{"label": "dog", "score": 0.1235, "box": [1.23, 2.0, 3.0, 4.57]}]


# ---- videos


@pytest.fixture
def video(tmp_path) -> Path:
    """Twelve frames of 192 x 128: the scene of `render_scene(0, 0)` that grows darker, nearly without loss."""
    av = pytest.importorskip("av")
    scene = render_scene(0, 0, 192, 128)[0]
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5, options={"qscale": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 192, 128, "yuv420p", 4_000_000
        for index in range(12):
            frame = av.VideoFrame.from_image(scene.point([level - 5 * index for level in range(256)] * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return tmp_path / "clip.mp4"


def test_frames_of_a_video(detector, video, photos):
    seen = list(detector.stream([photos / "1.png", video, photos / "2.png"], batch_size=5))
    frames = seen[1:-1]
    assert [name for name, _, _ in frames] == [f"{video}#{index:06}" for index in range(12)]
    levels = [np.asarray(image, dtype=float).mean() for _, image, _ in frames]
    assert np.diff(levels) == pytest.approx(-5, abs=2)
    (expected,) = detector([render_scene(0, 0, 192, 128)[0]])
    first = frames[0][2]
    assert first["labels"].tolist() == expected["labels"].tolist()
    torch.testing.assert_close(first["boxes"], expected["boxes"], rtol=0, atol=4)


def test_a_video_of_a_turned_camera_is_turned_back(detector, video):
    content = bytearray(video.read_bytes())
    start = content.index(b"tkhd") + 44  # the matrix by which to show the track, here a quarter turn clockwise
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    turned = video.with_name("turned.mp4")
    turned.write_bytes(content)
    lying, upright = (next(detector.stream(path))[1] for path in (video, turned))
    assert upright.tobytes() == lying.transpose(Image.Transpose.ROTATE_270).tobytes()


def test_broken_videos(detector, video, photos):
    broken, cut = video.with_name("broken.mp4"), video.with_name("cut.mkv")
    broken.write_bytes(b"no video")
    av = pytest.importorskip("av")
    with av.open(str(video)) as source, av.open(str(cut), "w") as target:  # Matroska can be read up to where it ends
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    seen = list(detector.stream([broken, cut, photos / "0.png"]))
    assert seen[0][:2] == (str(broken), None) and "Invalid data" in str(seen[0][2])
    assert 2 < len(seen) < 14 and seen[1][0] == f"{cut}#000000" and isinstance(seen[1][2], dict)
    assert seen[-1][0] == str(photos / "0.png") and seen[-1][1] is not None


def test_videos_need_pyav_and_say_so_first(detector, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (photos / "clip.mp4").write_bytes(b"")
    with pytest.raises(ImportError, match=r'pip install "yolox-hf\[video\]"'):
        detector.stream([photos / "0.png", photos / "clip.mp4"])
    assert list_images(photos)  # a folder's videos are not among its images


def test_the_module_needs_no_typer():
    assert "typer" not in inspect.getsource(detection)
