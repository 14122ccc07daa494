"""Events told from each other by pictures of their hits: the demonstration of TFaaS, the papers' model service.

A small convolutional network learns from pictures of three kinds of events, without any tracking. It is pushed to the
session's model service with the names of its classes, and asked as TFaaS is: a PNG file in a form, classes in JSON.

    python hit_images.py hits.py

Environment
-----------
TRAINED, TESTED
    How many pictures; 2000 and 600 if not set.
AF_RESULTS
    Directory for ``hit_images.json`` and ``hit_images.png``; ``./results`` if not set.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import hits
import keras
import numpy as np
import requests
from matplotlib.figure import Figure

from af_client.models import About, Models

TRAINED, TESTED = (int(os.environ.get(name, default)) for name, default in (("TRAINED", "2000"), ("TESTED", "600")))
MODEL = "hits"
# Of grey pictures. With an output's name TFaaS answers with names of classes, without it with bare numbers.
ABOUT = About(hits.KINDS, params={"img_channels": "1", "output_node": "probabilities"})
SEED = 200
EPOCHS = 3
SAME = 1e-5
PAPER = {"ResNet34": 0.74, "ResNet50": 0.79, "ResNet50 modified": 0.88}  # accuracy for the same three kinds, in CMS

Array = np.ndarray[Any, Any]


def main() -> None:
    results = Path(os.environ.get("AF_RESULTS", "results"))
    results.mkdir(parents=True, exist_ok=True)
    pictures, kinds = draw(TRAINED, SEED)
    tested, truth = draw(TESTED, SEED + 1)
    print(f"{TRAINED} pictures to learn from, {TESTED} to be asked of", flush=True)
    network = train(pictures, kinds)
    version = Models().push(MODEL, network, pictures[:32], ABOUT)
    print(f"model {MODEL}, version {version}, is served", flush=True)
    begin = time.monotonic()
    with requests.Session() as http:  # one connection for all
        http.headers["Authorization"] = f"Bearer {os.environ['AF_INFERENCE_TOKEN']}"
        answers = np.array([ask(http, hits.png(picture[..., 0].astype(np.uint8))) for picture in tested])
    seconds = time.monotonic() - begin
    direct = network.predict(tested, verbose=0)
    report(results, truth, answers, direct, seconds)


def draw(count: int, seed: int) -> tuple[Array, Array]:
    """Return seeded pictures (count, 48, 48, 1) from 0 to 255, and of which kind each is (count,)."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, len(hits.KINDS), count)
    pictures = np.stack([hits.picture(hits.KINDS[kind], rng) for kind in kinds])
    return pictures[..., None].astype(np.float32), kinds


def train(pictures: Array, kinds: Array) -> keras.Model:
    """Return a network that has learned from pictures, as they come out of a PNG, and from all eight sides."""
    turned = [np.rot90(pictures, quarter, axes=(1, 2)) for quarter in range(4)]
    sides = np.concatenate([*turned, *(each[:, ::-1] for each in turned)])
    keras.utils.set_random_seed(SEED)
    network = keras.Sequential([keras.Input(pictures.shape[1:]), keras.layers.Rescaling(1 / 255)])
    for filters in (8, 16, 32):
        network.add(keras.layers.Conv2D(filters, 5, padding="same", activation="relu"))
        network.add(keras.layers.MaxPooling2D())
    network.add(keras.layers.Flatten())
    network.add(keras.layers.Dense(32, activation="relu"))
    network.add(keras.layers.Dropout(0.3))
    network.add(keras.layers.Dense(len(hits.KINDS), activation="softmax"))
    network.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    # A line for each pass: its bar is not for a log.
    network.fit(sides, np.tile(kinds, 8), batch_size=64, epochs=EPOCHS, verbose=2)
    return network


def ask(http: requests.Session, png: bytes) -> list[float]:
    """Send a picture as a browser's form or `curl -F image=@hits.png -F model=hits` does; return its probabilities."""
    answer = http.post(
        f"{os.environ['TFAAS_URL']}/image",
        files={"image": ("hits.png", png, "image/png")},
        data={"model": MODEL},
        timeout=60,
    )
    answer.raise_for_status()
    probabilities = {each["label"]: each["probability"] for each in answer.json()["labels"]}
    return [probabilities[kind] for kind in hits.KINDS]


def report(results: Path, truth: Array, answers: Array, direct: Array, seconds: float) -> None:
    """Write ``hit_images.json`` and ``hit_images.png``; stop where the service does not say what the network says."""
    said, confusion = answers.argmax(axis=1), np.zeros((len(hits.KINDS),) * 2, dtype=int)
    np.add.at(confusion, (truth, said), 1)
    numbers = {
        "trained": TRAINED,
        "tested": TESTED,
        "kinds": hits.KINDS,
        "accuracy": {
            "service": float(np.mean(said == truth)),
            "network itself": float(np.mean(direct.argmax(1) == truth)),
        },
        "accuracy_in_paper": PAPER,
        "confusion": confusion.tolist(),
        "largest_difference": float(np.max(np.abs(answers - direct))),
        "pictures_per_second": round(TESTED / seconds, 1),
    }
    (results / "hit_images.json").write_text(json.dumps(numbers, indent=2) + "\n")
    figure(confusion).savefig(results / "hit_images.png", dpi=120)
    print(json.dumps(numbers), flush=True)
    if not numbers["largest_difference"] <= SAME:
        sys.exit(f"The service's probabilities are up to {numbers['largest_difference']} off the network's own")


def figure(confusion: Array) -> Figure:
    """Draw a picture of each kind, and what they are taken for."""
    drawn = Figure(figsize=(12, 3.2), layout="constrained")
    *pictures, table = drawn.subplots(1, len(hits.KINDS) + 1)
    for axes, kind in zip(pictures, hits.KINDS, strict=True):
        axes.imshow(hits.picture(kind, np.random.default_rng(SEED)), cmap="gray")
        axes.set(title=kind, xticks=(), yticks=())
    table.imshow(confusion, cmap="Blues")
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if 2 * count > confusion.max() else "black"
        table.text(column, row, str(count), color=colour, ha="center", va="center")
    table.set_xticks(range(len(hits.KINDS)), hits.KINDS, rotation=20)
    table.set_yticks(range(len(hits.KINDS)), hits.KINDS)
    table.set(xlabel="taken for", ylabel="is")
    return drawn


if __name__ == "__main__":
    main()
