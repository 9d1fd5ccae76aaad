import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from yolox_hf import data as data_module
from yolox_hf.data import DataError, Problem, check_detection_data, load_detection_data

WIDTH, HEIGHT = 64, 32
NAMES = ["apple", "pear"]
CATEGORY_IDS = [3, 7]
# By split and file name: (class index, x, y, width, height). Eighths of the sides are exact in YOLO's fractions.
SCENE = {
    "train": {"a.png": [(0, 8, 4, 16, 8), (1, 32, 16, 32, 16)], "b.png": [], "c.png": [(1, 0, 0, 64, 32)]},
    "validation": {"d.png": [(0, 24, 8, 8, 4)]},
}


def save_image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), **kwargs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(sum(map(ord, path.stem))).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(levels).save(path, **kwargs)
    return path


def save_text(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# ---- one scene in each format


def coco_content(images: dict[str, list]) -> dict:
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, NAMES)],
    }
    for image_id, (name, boxes) in enumerate(images.items()):
        content["images"].append({"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for category, *box in boxes:
            annotation_id = len(content["annotations"]) + 1
            item = {"id": annotation_id, "image_id": image_id, "category_id": CATEGORY_IDS[category], "bbox": box}
            content["annotations"].append(item)
    return content


def write_coco(
    root: Path, json_path: str = "annotations/instances_{}.json", image_path: str = "{}", scene=SCENE
) -> Path:
    for split, images in scene.items():
        save_text(root / json_path.format(split), coco_content(images))
        for name in images:
            save_image(root / image_path.format(split) / name)
    return root


def yolo_line(category, x, y, width, height) -> str:
    return f"{category} {(x + width / 2) / WIDTH} {(y + height / 2) / HEIGHT} {width / WIDTH} {height / HEIGHT}\n"


def write_yolo(root: Path, image_path: str = "images/{}", label_path: str = "labels/{}", settings=None) -> Path:
    folders = {"train": "train", "validation": "val"}
    for split, images in SCENE.items():
        for name, boxes in images.items():
            save_image(root / image_path.format(folders[split]) / name)
            if boxes:
                label = root / label_path.format(folders[split]) / name.replace(".png", ".txt")
                save_text(label, "".join(yolo_line(*box) for box in boxes))
    if settings is None:
        save_text(root / "classes.txt", "\n".join(NAMES))
    else:
        save_text(root / "data.yaml", settings)
    return root


def voc_xml(name: str, boxes: list, head: str = "", tail: str = "") -> str:
    items = "".join(
        f"<object><name>{NAMES[category]}</name>{tail}<bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + width}</xmax>"
        f"<ymax>{y + height}</ymax></bndbox></object>"
        for category, x, y, width, height in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{head}{size}{items}</annotation>"


def write_voc(root: Path, nested: bool = False) -> Path:
    for split, images in SCENE.items():
        for name, boxes in images.items():
            save_image(root / ("JPEGImages" if nested else split) / name)
            xml = name.replace(".png", ".xml")
            save_text(root / ("Annotations" if nested else split) / xml, voc_xml(name, boxes))
        if nested:
            listed = "".join(f"{Path(name).stem}\n" for name in images)
            save_text(root / "ImageSets" / "Main" / f"{'train' if split == 'train' else 'val'}.txt", listed)
    if nested:
        save_text(root / "ImageSets" / "Main" / "apple_train.txt", "a 1\nb -1\n")
    return root


def hub_dataset(folder: Path, scene=SCENE, objects_as_list: bool = False, **kwargs) -> DatasetDict:
    item = {"bbox": List(Value("float32"), length=4), "category": ClassLabel(names=NAMES)}
    objects = List(item) if objects_as_list else {key: List(value) for key, value in item.items()}
    splits = {}
    for split, images in scene.items():
        rows = []
        for name, boxes in images.items():
            content = [{"bbox": box, "category": category} for category, *box in boxes]
            if not objects_as_list:
                content = {key: [entry[key] for entry in content] for key in item}
            path = save_image(folder / split / name)
            rows.append({"image": {"bytes": path.read_bytes(), "path": name}, "objects": content})
        splits[split] = Dataset.from_list(rows, features=Features({"image": ImageFeature(), "objects": objects}))
    return DatasetDict(splits)


def row_values(row: dict) -> dict:
    return {**row, "image": np.asarray(row["image"].convert("RGB")).tolist()}


def expected_rows(split: str, folder: Path) -> list[dict]:
    rows = []
    for image_id, (name, boxes) in enumerate(SCENE[split].items()):
        objects = {
            "bbox": [[float(value) for value in box[1:]] for box in boxes],
            "category": [box[0] for box in boxes],
            "area": [float(box[3] * box[4]) for box in boxes],
            "iscrowd": [0 for _ in boxes],
        }
        image = np.asarray(Image.open(save_image(folder / name))).tolist()
        row = {"image_id": image_id, "image": image, "file_name": name, "width": WIDTH, "height": HEIGHT}
        rows.append({**row, "objects": objects})
    return rows


YAML = "path: .\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: apple\n  1: pear\n"
ROBOFLOW_YAML = "train: ../train/images\nval: ../val/images\nnc: 2\nnames: ['apple', 'pear']\n"
WRITERS = {
    "coco": write_coco,
    "coco, images/<split>": lambda root: write_coco(root, image_path="images/{}"),
    "coco, <split>/images": lambda root: write_coco(root, image_path="{}/images"),
    "coco, images": lambda root: write_coco(root, image_path="images"),
    "coco, root": lambda root: write_coco(root, json_path="{}2017.json", image_path="."),
    "coco, roboflow": lambda root: write_coco(root, json_path="{}/_annotations.coco.json"),
    "yolo, folders": write_yolo,
    "yolo, nested folders": lambda root: write_yolo(root, "{}/images", "{}/labels"),
    "yolo, yaml": lambda root: write_yolo(root, settings=YAML),
    "yolo, yaml file": lambda root: write_yolo(root, settings=YAML) / "data.yaml",
    "yolo, roboflow": lambda root: write_yolo(root, "{}/images", "{}/labels", ROBOFLOW_YAML),
    "voc, beside": write_voc,
    "voc, image sets": lambda root: write_voc(root, nested=True),
    "hub": hub_dataset,
    "hub, list of objects": lambda root: hub_dataset(root, objects_as_list=True),
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_the_same_rows(form, tmp_path):
    data = load_detection_data(WRITERS[form](tmp_path / "data"))
    assert data.problems == []
    assert data.id2label == {0: "apple", 1: "pear"}
    assert data.category_ids == (CATEGORY_IDS if form.startswith("coco") else [0, 1])
    assert list(data.splits) == ["train", "validation"]
    for split in SCENE:
        assert [row_values(row) for row in data.splits[split]] == expected_rows(split, tmp_path / "expected")
    assert data.splits["train"].features == data.splits["validation"].features
    assert isinstance(data.splits["train"].features["image"], ImageFeature)


def test_what_was_loaded_loads_again(tmp_path):
    data = load_detection_data(write_coco(tmp_path))
    again = load_detection_data(data.splits)
    assert again.problems == [] and again.id2label == data.id2label
    assert [row_values(row) for row in again.splits["train"]] == [row_values(row) for row in data.splits["train"]]


def test_paths_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    write_coco(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    data = load_detection_data("data")
    monkeypatch.chdir("/")
    assert data.splits["train"][0]["image"].size == (WIDTH, HEIGHT)


def test_split_names(tmp_path):
    for name, split in (("val2017", "validation"), ("valid", "validation"), ("Test", "test"), ("fold", "fold")):
        root = tmp_path / name
        for file in ("x", name):  # a second file, without which any other name would be "train"
            folder = "train" if file == "x" else name
            path = root / folder / "a.png"
            save_image(path)
            save_text(root / "annotations" / f"instances_{folder}.json", coco_content({"a.png": []}))
        assert set(load_detection_data(root).splits) == {"train", split}
    save_image(tmp_path / "alone" / "a.png")
    alone = save_text(tmp_path / "alone" / "labels.json", coco_content({"a.png": [(0, 0, 0, 8, 8)]}))
    assert list(load_detection_data(alone).splits) == ["train"]
    single = hub_dataset(tmp_path / "hub")["train"]
    assert list(load_detection_data(single).splits) == ["train"]
    with pytest.raises(ValueError, match="two splits that both mean 'validation'"):
        load_detection_data(DatasetDict({"val": single, "valid": single}))


# ---- COCO


def change_coco(root: Path, change) -> Path:
    """The scene in COCO with the train file's content changed in place."""
    path = write_coco(root) / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    change(content)
    save_text(path, content)
    return root


def test_crowds_and_areas_are_kept(tmp_path):
    def change(content):
        content["annotations"][0].update(iscrowd=1, area=99.5)

    objects = load_detection_data(change_coco(tmp_path, change)).splits["train"][0]["objects"]
    assert objects["iscrowd"] == [1, 0] and objects["area"] == [99.5, 512.0]


def test_captions_beside_the_objects_are_not_read(tmp_path):
    write_coco(tmp_path)
    content = {**coco_content(SCENE["train"]), "annotations": [{"id": 1, "image_id": 0, "caption": "fruit"}]}
    save_text(tmp_path / "annotations" / "captions_train.json", content)
    assert load_detection_data(tmp_path).problems == []


def test_the_placeholder_category_of_roboflow_is_left_out_with_a_note(tmp_path):
    def change(content):
        for category in content["categories"]:
            category["supercategory"] = "fruit"
        content["categories"].insert(0, {"id": 0, "name": "fruit", "supercategory": "none"})

    root = change_coco(tmp_path, change)
    shutil.copy(root / "annotations" / "instances_train.json", root / "train" / "_annotations.coco.json")
    shutil.rmtree(root / "annotations")
    data = load_detection_data(root)
    assert data.category_ids == CATEGORY_IDS
    assert [(problem.kind, problem.is_error) for problem in data.problems] == [("placeholder category", False)]


def test_categories_that_contradict(tmp_path):
    def change(content):
        content["categories"][0]["name"] = "plum"

    with pytest.raises(ValueError, match="category id 3 is both 'plum' and 'apple'"):
        load_detection_data(change_coco(tmp_path, change))


def test_class_names_choose_and_order(tmp_path):
    data = load_detection_data(write_coco(tmp_path), class_names=["pear", "apple"])
    assert data.category_ids == [7, 3] and data.id2label == {0: "pear", 1: "apple"}
    assert data.splits["train"][0]["objects"]["category"] == [1, 0]
    with pytest.raises(
        ValueError, match=r"`class_names` has \['plum'\], but the categories of .* are \['apple', 'pear'\]"
    ):
        load_detection_data(tmp_path, class_names=["plum"])
    data = load_detection_data(tmp_path, class_names=["pear"], on_problem="skip")
    assert data.splits["train"][0]["objects"]["category"] == [0]
    assert [problem.kind for problem in data.problems if problem.is_error] == ["unknown category"] * 2


def test_category_ids_map_back_to_coco(shared):
    path = shared / "data" / "coco_tiny_val"
    data = load_detection_data(path)
    content = json.loads((path / "instances_val2017.json").read_text())
    rows = data.splits["validation"].remove_columns("image")
    assert len(rows) == 80 and data.problems == []
    assert len(data.category_ids) == 80 and data.category_ids[-1] == 90
    found = {
        (row["image_id"], data.category_ids[category], *box, area, crowd)
        for row in rows
        for box, category, area, crowd in zip(
            *(row["objects"][key] for key in ("bbox", "category", "area", "iscrowd"))
        )
    }
    keys = ("image_id", "category_id")
    expected = [
        (*(item[key] for key in keys), *item["bbox"], item["area"], item["iscrowd"]) for item in content["annotations"]
    ]
    assert len(expected) == 815 and sum(item[-1] for item in expected) == 11
    assert found == set(expected)
    assert data.id2label == {i: item["name"] for i, item in enumerate(content["categories"])}


def test_bccd(shared):
    data = load_detection_data(shared / "data" / "bccd", check_images=False)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 205, "validation": 87, "test": 72}
    assert data.id2label == {0: "Platelets", 1: "RBC", 2: "WBC"} and data.category_ids == [0, 1, 2]
    assert data.problems == []
    rows = data.splits["train"].remove_columns("image")
    assert sum(len(row["objects"]["bbox"]) for row in rows) == 2804


# ---- YOLO and Pascal VOC


def test_yolo_without_names(tmp_path):
    root = write_yolo(tmp_path)
    (root / "classes.txt").unlink()
    data = load_detection_data(root)
    assert data.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert [problem.kind for problem in data.problems] == ["no class names"]
    data = load_detection_data(root, class_names=["x", "y", "z"])
    assert data.id2label == {0: "x", 1: "y", 2: "z"} and data.problems == []


def test_yolo_outlines_become_boxes(tmp_path):
    root = write_yolo(tmp_path)
    save_text(root / "labels" / "val" / "d.txt", "0 0.5 0.25 0.25 0.5 0.375 0.75\n")
    data = load_detection_data(root)
    assert data.splits["validation"][0]["objects"]["bbox"] == [[16, 8, 16, 16]]
    assert [(problem.kind, problem.split) for problem in data.problems] == [("polygons", "validation")]
    assert "1 outlines" in data.problems[0].detail and not data.problems[0].is_error


def test_yolo_list_of_images(tmp_path):
    root = write_yolo(tmp_path, settings="train: train.txt\nnames: [apple, pear]\n")
    save_text(root / "train.txt", "./images/train/a.png\nimages/train/absent.png\n")
    (problem,) = check_detection_data(root)
    assert (problem.file_name, problem.kind) == ("images/train/absent.png", "missing image")
    data = load_detection_data(root, on_problem="skip")
    assert data.splits["train"]["file_name"][:] == ["images/train/a.png"]
    assert data.splits["train"][0]["objects"]["bbox"] == [[8, 4, 16, 8], [32, 16, 32, 16]]


def test_voc_coordinates_are_edges_but_in_the_challenges_own_files(tmp_path):
    for database, expected in (("Unknown", [8, 4, 16, 8]), ("The VOC2007 Database", [7, 3, 17, 9])):
        root = tmp_path / database
        save_image(root / "train" / "a.png")
        head = f"<source><database>{database}</database></source>"
        save_text(root / "train" / "a.xml", voc_xml("a.png", SCENE["train"]["a.png"][:1], head))
        assert load_detection_data(root).splits["train"][0]["objects"]["bbox"] == [expected]


def test_difficult_objects_are_kept_with_a_note(tmp_path):
    root = write_voc(tmp_path)
    save_text(root / "train" / "a.xml", voc_xml("a.png", SCENE["train"]["a.png"], tail="<difficult>1</difficult>"))
    data = load_detection_data(root)
    assert len(data.splits["train"][0]["objects"]["bbox"]) == 2
    (note,) = data.problems
    assert str(note) == "train: difficult: 2 objects are marked difficult and are kept like others"


def test_trainval_is_train_only_where_there_is_no_train(tmp_path):
    root = write_voc(tmp_path, nested=True)
    lists = root / "ImageSets" / "Main"
    save_text(lists / "trainval.txt", "a\nb\nc\nd\n")
    assert len(load_detection_data(root).splits["train"]) == 3
    (lists / "train.txt").unlink()
    (lists / "val.txt").rename(lists / "test.txt")
    data = load_detection_data(root)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 4, "test": 1}


# ---- problems


def coco_problem(change):
    return lambda root: change_coco(root, change)


def with_box(*box):
    """Change of the first object's box, of class apple in a.png."""
    return coco_problem(lambda content: content["annotations"][0].update(bbox=list(box)))


def without_image(root):
    (write_coco(root) / "train" / "a.png").unlink()
    return root


def broken_image(root):
    (write_coco(root) / "train" / "a.png").write_bytes(b"no image at all")
    return root


def flipped_bit(root):
    path = write_coco(root) / "train" / "a.png"
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum of the last chunk
    path.write_bytes(content)
    return root


def truncated_jpeg(root):
    change_coco(root, lambda content: content["images"][0].update(file_name="a.jpg"))
    path = save_image(root / "train" / "a.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    return root


def yolo_labels(text):
    def write(root):
        save_text(write_yolo(root) / "labels" / "train" / "a.txt", text)
        return root

    return write


def yolo_orphan(root):
    (write_yolo(root) / "images" / "train" / "a.png").unlink()
    return root


def voc_file(text):
    def write(root):
        save_text(write_voc(root) / "train" / "a.xml", text)
        return root

    return write


def voc_unannotated(root):
    (write_voc(root) / "train" / "a.xml").unlink()
    return root


def hub_lengths(root):
    splits = hub_dataset(root)

    def cut(row):
        return {"objects": {"bbox": row["objects"]["bbox"][:1], "category": row["objects"]["category"]}}

    return DatasetDict({**splits, "train": splits["train"].map(cut, features=splits["train"].features)})


# How to make it; file, kind and a part of the detail; and the boxes of the train split's images under "skip".
ALL = {"a": 2, "b": 0, "c": 1}
PROBLEMS = {
    "missing": (without_image, "a.png", "missing image", "(2 objects belong to it)", {"b": 0, "c": 1}),
    "broken": (broken_image, "a.png", "broken image", "cannot identify image file", {"b": 0, "c": 1}),
    "checksum": (flipped_bit, "a.png", "broken image", "", {"b": 0, "c": 1}),
    "truncated": (truncated_jpeg, "a.jpg", "broken image", "truncated", {"b": 0, "c": 1}),
    "no area": (with_box(8, 4, 0, 8), "a.png", "zero area", "[8, 4, 0, 8] has no area", {**ALL, "a": 1}),
    "negative": (with_box(8, 4, 9, -8), "a.png", "zero area", "[8, 4, 9, -8]", {**ALL, "a": 1}),
    "outside": (with_box(70, 4, 9, 8), "a.png", "outside", "outside the image of 64 x 32", {**ALL, "a": 1}),
    "right": (with_box(8, 4, 60, 8), "a.png", "partly outside", "reaches 4 pixels over", {**ALL, "a": 1}),
    "top": (with_box(8, -1.5, 9, 8), "a.png", "partly outside", "reaches 1.5 pixels over", {**ALL, "a": 1}),
    "three numbers": (with_box(8, 4, 9), "a.png", "wrong box format", "got [8, 4, 9]", {**ALL, "a": 1}),
    "text": (with_box("x", 4, 9, 8), "a.png", "wrong box format", "four finite numbers", {**ALL, "a": 1}),
    "not finite": (with_box(float("nan"), 4, 9, 8), "a.png", "wrong box format", "nan", {**ALL, "a": 1}),
    "category": (
        coco_problem(lambda content: content["annotations"][0].update(category_id=4)),
        "a.png", "unknown category", "category 4 is none of 3, 7", {**ALL, "a": 1},
    ),
    "annotation id": (
        coco_problem(lambda content: content["annotations"][2].update(id=1)),
        "c.png", "duplicate id", "annotation id 1", {**ALL, "c": 0},
    ),
    "image id": (
        coco_problem(lambda content: content["images"][1].update(id=0)),
        "b.png", "duplicate id", "image id 0", {"a": 2, "c": 1},
    ),
    "category id": (
        coco_problem(lambda content: content["categories"].append(content["categories"][0])),
        "instances_train.json", "duplicate id", "category id 3 is listed 2 times", ALL,
    ),
    "file name": (
        coco_problem(lambda content: content["images"].append({"id": 9, "file_name": "a.png"})),
        "a.png", "duplicate file name", "listed before", ALL,
    ),
    "image of an annotation": (
        coco_problem(lambda content: content["annotations"][0].update(image_id=50)),
        "instances_train.json", "unknown image", "annotation 1 is of image id 50", {**ALL, "a": 1},
    ),
    "image without name": (
        coco_problem(lambda content: content["images"].append({"id": 50})),
        "instances_train.json", "broken annotation", "without id or file_name", ALL,
    ),
    "size": (
        coco_problem(lambda content: content["images"][0].update(width=32, height=64)),
        "a.png", "size mismatch", "for 32 x 64 pixels, the image as displayed has 64 x 32", {"b": 0, "c": 1},
    ),
    "yolo, word": (yolo_labels("apple 0 0 1 1"), "a.png", "wrong box format", "line 1 of a.txt", {**ALL, "a": 0}),
    "yolo, six": (yolo_labels("0 .5 .5 1 1 .9"), "a.png", "wrong box format", "'0 .5 .5 1 1 .9'", {**ALL, "a": 0}),
    "yolo, class": (yolo_labels("2 .5 .5 1 1"), "a.png", "unknown category", "2 is none of 0, 1", {**ALL, "a": 0}),
    "yolo, pixels": (
        yolo_labels("0 .5 .5 1 1\n0 9 9 4 4"),
        "a.png", "wrong box format", "[9, 9, 4, 4] looks like pixels", {**ALL, "a": 1},
    ),
    "yolo, no image": (yolo_orphan, "a.txt", "missing image", "label file has no image", {"b": 0, "c": 1}),
    "voc, cut": (voc_file("<annotation>"), "a.xml", "broken annotation", "no element", {"b": 0, "c": 1}),
    "voc, other": (voc_file("<svg/>"), "a.xml", "broken annotation", "<svg>", {"b": 0, "c": 1}),
    "voc, number": (
        voc_file(voc_xml("a.png", [(0, 8, 4, 9, 8)]).replace("<xmin>8", "<xmin>left")),
        "a.xml", "broken annotation", "left", {"b": 0, "c": 1},
    ),
    "voc, no box": (
        voc_file("<annotation><object><name>apple</name></object></annotation>"),
        "a.png", "wrong box format", "got None", {**ALL, "a": 0},
    ),
    "voc, no xml": (voc_unannotated, "a.png", "missing annotation", "no a.xml", {"b": 0, "c": 1}),
    "hub, lengths": (hub_lengths, "a.png", "broken annotation", "1 boxes, but 2 categories", {"b": 0, "c": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_is_found_named_and_left_out_alone(name, tmp_path, monkeypatch):
    make, file_name, kind, detail, left = PROBLEMS[name]
    source = make(tmp_path)
    with pytest.raises(DataError) as raised:
        load_detection_data(source)
    (problem,) = raised.value.problems
    assert (problem.split, problem.file_name, problem.kind, problem.is_error) == ("train", file_name, kind, True)
    assert detail in problem.detail and "\n" not in problem.detail
    assert f"has 1 errors: 1 {kind}.\n  train {file_name}: {kind}: " in str(raised.value)
    assert 'on_problem="skip"' in str(raised.value)

    warnings = []
    monkeypatch.setattr(data_module.logger, "warning", warnings.append)
    data = load_detection_data(source, on_problem="skip")
    assert data.problems == [problem] == check_detection_data(source) == check_detection_data(data)
    assert len(warnings) == 1 and f"left out 1 {kind}; noted nothing" in warnings[0] and "\n" not in warnings[0]
    assert {Path(row["file_name"]).stem: len(row["objects"]["bbox"]) for row in data.splits["train"]} == left
    assert len(data.splits["validation"]) == 1


def test_a_string_of_a_problem():
    problem = Problem("train", "a.jpg", "zero area", "the box has no area")
    assert str(problem) == "train a.jpg: zero area: the box has no area"
    assert str(Problem("", "", "no categories", "none")) == "no categories: none"


def test_ten_lines_and_counts(tmp_path):
    def change(content):
        box = content["annotations"][0]
        content["annotations"] += [{**box, "id": 100 + i, "bbox": [1, 1, 0, 1]} for i in range(12)]
        content["annotations"] += [{**box, "id": 200, "category_id": 1}]

    with pytest.raises(DataError) as raised:
        load_detection_data(change_coco(tmp_path, change))
    message = str(raised.value)
    assert "has 13 errors: 12 zero area, 1 unknown category." in message and "\n  and 3 more\n" in message
    assert message.count("\n  train a.png: ") == 10 and len(raised.value.problems) == 13


@pytest.mark.parametrize(
    ("box", "clipped", "noted"),
    [
        ((-0.75, 4, 8.75, 8), [0, 4, 8, 8], True),
        ((56, 24, 8.5, 9), [56, 24, 8, 8], True),
        ((56, 24, 8.005, 8), [56, 24, 8, 8], False),
    ],
)
def test_boxes_a_bit_over_the_border_are_clipped_with_a_note(box, clipped, noted, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(data_module.logger, "warning", warnings.append)
    data = load_detection_data(with_box(*box)(tmp_path))
    objects = data.splits["train"][0]["objects"]
    assert objects["bbox"][0] == clipped and objects["area"][0] == clipped[2] * clipped[3]
    assert [(problem.kind, problem.is_error) for problem in data.problems] == [("clipped", False)] * noted
    assert len(warnings) == noted


def test_the_tolerance_grows_with_the_image(tmp_path):
    save_image(tmp_path / "a.png", (400, 32))
    content = coco_content({"a.png": [(0, 300, 8, 101.5, 8)]})
    content["images"][0].update(width=400)
    (note,) = check_detection_data(save_text(tmp_path / "labels.json", content))
    assert note.kind == "clipped" and "[300, 8, 101.5, 8] reaches 1.5 pixels" in note.detail


# ---- whole splits


@pytest.mark.parametrize(
    ("make", "detail"),
    [
        (
            lambda box: [box[0] / WIDTH, box[1] / HEIGHT, box[2] / WIDTH, box[3] / HEIGHT],
            "relative to the image rather",
        ),
        (lambda box: [box[0] + 1, box[1] + 1, box[0] + box[2], box[1] + box[3]], "look like corners"),
    ],
)
def test_a_split_in_the_wrong_format_is_one_error(make, detail, tmp_path):
    def change(content):
        content["annotations"].append({"image_id": 0, "category_id": 3, "bbox": [40, 8, 16, 8]})
        for item in content["annotations"]:
            item["bbox"] = make(item["bbox"])

    root = change_coco(tmp_path, change)
    problems = check_detection_data(root)
    assert [(problem.split, problem.kind) for problem in problems] == [
        ("train", "wrong box format"),
        ("train", "empty split"),
    ]
    assert detail in problems[0].detail
    # Its images do not become background.
    assert list(load_detection_data(root, on_problem="skip").splits) == ["validation"]


def test_pixels_in_yolo_files_are_one_error(tmp_path):
    root = write_yolo(tmp_path)
    for path in (root / "labels" / "train").iterdir():
        path.write_text("0 16 8 8 4\n1 20 12 4 4\n")
    problem = check_detection_data(root)[0]
    assert problem.kind == "wrong box format" and "pixels rather than relative" in problem.detail
    assert "[16, 8, 8, 4]" in problem.detail


def test_right_boxes_are_not_taken_for_corners(tmp_path):
    boxes = [(0, 2, 2, 20, 20), (0, 1, 1, 63, 31), (1, 3, 3, 50, 28), (0, 2, 3, 64, 31)]
    root = write_coco(tmp_path, scene={"train": {"a.png": boxes}})
    (problem,) = check_detection_data(root)
    assert problem.kind == "partly outside"


def test_empty_splits(tmp_path):
    root = write_coco(tmp_path, scene={**SCENE, "test": {}})
    (problem,) = check_detection_data(root)
    assert (problem.split, problem.kind, problem.is_error) == ("test", "empty split", True)
    assert "test" not in load_detection_data(root, on_problem="skip").splits


def test_a_split_of_backgrounds_is_noted_and_kept(tmp_path):
    root = write_coco(tmp_path, scene={"train": SCENE["train"], "test": {"x.png": [], "y.png": []}})
    data = load_detection_data(root)
    (note,) = data.problems
    assert (note.split, note.kind, note.is_error) == ("test", "no objects", False)
    assert len(data.splits["test"]) == 2
    assert data.splits["test"].features == data.splits["train"].features
    assert data.splits["test"][0]["objects"] == {"bbox": [], "category": [], "area": [], "iscrowd": []}


def test_nothing_left_is_an_error_even_with_skip(tmp_path):
    root = write_coco(tmp_path, scene={"train": {"a.png": [(0, 0, 0, 8, 8)]}})
    (root / "train" / "a.png").unlink()
    with pytest.raises(DataError, match="Nothing can be used"):
        load_detection_data(root, on_problem="skip")
    assert [problem.kind for problem in check_detection_data(root)] == ["missing image", "empty split"]


def test_no_categories(tmp_path):
    root = write_voc(tmp_path)
    for path in root.rglob("*.xml"):
        path.write_text(voc_xml(path.with_suffix(".png").name, []))
    with pytest.raises(DataError, match="1 no categories"):
        load_detection_data(root, on_problem="skip")
    assert load_detection_data(root, class_names=["apple"]).id2label == {0: "apple"}


# ---- images


def test_images_are_not_decoded_without_check_images(tmp_path, monkeypatch):
    root = truncated_jpeg(tmp_path)
    with pytest.raises(DataError, match=r"a\.jpg: broken image"):
        load_detection_data(root)

    def refuse(self):
        raise RuntimeError("decoded")

    with monkeypatch.context() as patch:
        patch.setattr("PIL.ImageFile.ImageFile.load", refuse)
        data = load_detection_data(root, check_images=False)
    assert data.problems == [] and len(data.splits["train"]) == 3
    assert data.splits["train"]["width"][0] == WIDTH
    with pytest.raises(OSError, match="truncated"):
        data.splits["train"][0]["image"]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("check_images", [True, False])
def test_sizes_are_those_of_the_image_as_displayed(suffix, check_images, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = save_image(tmp_path / f"a.{suffix}", exif=exif)
    content = coco_content({path.name: [(0, 4, 40, 16, 20)]})
    content["images"][0].update(width=HEIGHT, height=WIDTH)
    source = save_text(tmp_path / "labels.json", content)
    row = load_detection_data(source, check_images=check_images).splits["train"][0]
    assert (row["width"], row["height"]) == (HEIGHT, WIDTH) == row["image"].size
    assert row["objects"]["bbox"] == [[4, 40, 16, 20]]


def test_image_ids_that_are_text_are_numbered_with_a_note(tmp_path):
    def change(content):
        for item in content["images"]:
            item["id"] = f"x{item['id']}"
        for item in content["annotations"]:
            item["image_id"] = f"x{item['image_id']}"

    data = load_detection_data(change_coco(tmp_path, change))
    assert data.splits["train"]["image_id"][:] == [0, 1, 2]
    assert [len(row["objects"]["bbox"]) for row in data.splits["train"]] == [2, 0, 1]
    assert [(problem.kind, problem.is_error) for problem in data.problems] == [("image ids", False)]


# ---- sources


def test_the_hub_offline_is_one_clear_error():
    with pytest.raises(OSError, match=r"'nobody/nothing' is no file or folder here.*network connection") as error:
        load_detection_data("nobody/nothing")
    assert "\n" not in str(error.value)


def test_a_hub_name_is_loaded(tmp_path, monkeypatch):
    splits = hub_dataset(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", lambda name: {"me/fruit": splits}[name])
    assert load_detection_data("me/fruit").id2label == {0: "apple", 1: "pear"}


def test_names_of_images_inside_a_table_need_not_be_unique(tmp_path):
    train = hub_dataset(tmp_path)["train"]
    double = Dataset.from_list([train.with_format("arrow")[0].to_pylist()[0]] * 2, features=train.features)
    data = load_detection_data(double)
    assert data.problems == [] and data.splits["train"]["file_name"][:] == ["a.png", "a.png (row 1)"]


def test_a_dataset_with_other_columns(tmp_path):
    with pytest.raises(ValueError, match=r"split 'train': a detection dataset has columns `image` and `objects`"):
        load_detection_data(Dataset.from_dict({"image": [1], "label": [2]}))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda root: save_text(root / "notes.md", "x").parent, ValueError, r"Looked for\n- COCO.*Found: notes.md"),
        (lambda root: root, ValueError, "Found: an empty folder"),
        (lambda root: save_text(root / "data.json", {"images": []}), ValueError, "Found: data.json"),
        (lambda root: save_text(root / "data.csv", "x"), ValueError, "Found: data.csv"),
        (lambda root: save_text(root / "cut.json", '{"images": ['), ValueError, "cut.json is not valid JSON"),
        (lambda root: save_text(root / "data.yaml", "a: [1"), ValueError, "data.yaml is not valid YAML"),
        (lambda root: write_voc(write_coco(root)), ValueError, "annotations of COCO and Pascal VOC; give the json"),
        (lambda root: root / "absent", OSError, "no file or folder at .*absent"),
        (lambda root: str(root / "absent.json"), OSError, "no file or folder at .*absent.json"),
        (lambda root: 3, ValueError, "`source` must be a path, .* got int"),
    ],
)
def test_sources_that_are_none(make, error, message, tmp_path):
    with pytest.raises(error, match=f"(?s){message}"):
        load_detection_data(make(tmp_path))


def test_on_problem_is_checked(tmp_path):
    with pytest.raises(ValueError, match='`on_problem` must be "raise" or "skip", got \'ignore\''):
        load_detection_data(tmp_path, on_problem="ignore")


def test_a_category_without_a_name(tmp_path):
    root = change_coco(write_coco(tmp_path), lambda content: content["categories"][0].pop("name"))
    with pytest.raises(ValueError, match="a category must have an id and a name, got"):
        load_detection_data(root)


def test_labels_that_are_no_text(tmp_path):
    root = write_yolo(tmp_path)
    name = next(name for name, boxes in SCENE["train"].items() if boxes)
    (root / "labels" / "train" / name.replace(".png", ".txt")).write_bytes(b"\xff\xfe0 0.5\n")
    with pytest.raises(DataError, match=name.replace(".png", "")):
        load_detection_data(root)


def test_an_image_of_voc_is_found_by_the_name_in_its_file(tmp_path):
    root = write_voc(tmp_path, nested=True)
    name = next(iter(SCENE["train"]))
    (root / "Annotations" / name.replace(".png", ".xml")).rename(root / "Annotations" / "renamed.xml")
    listing = root / "ImageSets" / "Main" / "train.txt"
    listing.write_text(listing.read_text().replace(f"{Path(name).stem}\n", "renamed\n"))
    assert name in load_detection_data(root).splits["train"]["file_name"]
