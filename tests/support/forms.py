"""What profiles offer in the Hub's form, and the form as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from af_client.hub import options_form
from af_client.hub.offers import Offer
from tests.support.spawner_bench import PROFILE


def offer(name: str = "default", **spec: Any) -> Offer:
    return Offer.parse({**PROFILE, "metadata": {"name": name}, "spec": PROFILE["spec"] | spec})


OFFERS = [offer()]
TWO = [offer(), offer("ml", xcache=None)]
IMAGES = [
    {"name": "analysis", "image": "r/analysis"},
    {"name": "spark", "image": "r/spark", "provides": ["Spark"]},
    {"name": "root", "image": "r/root", "provides": ["Spark"]},
]
SIZES = [
    {"name": "small", "cpu": "500m", "memory": "1Gi"},
    {"name": "medium", "cpu": "1", "memory": "1536Mi"},
    {"name": "large", "cpu": "4", "memory": "16Gi"},
]
WITH_SPARK = [offer(images=IMAGES, sizes=SIZES)]


def model(name: str, version: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": version, "source": {"volumeClaim": {"claimName": "models"}}} | more


CATALOGUE = [model("topjet", "2"), model("topjet", "10", description="hadronic <tops>"), model("b.tag", "1")]
SERVING = [offer(inference={"image": "r/inference", "models": CATALOGUE, "upload": True})]


def spec(options: Any, offers: list[Offer] = OFFERS) -> dict[str, Any]:
    return options_form.spec(options, offers, "default")


def sent_by(sent: dict[str, list[str]], offers: list[Offer] = OFFERS) -> dict[str, Any]:
    """Return the options that the fields of a form stand for."""
    return options_form.from_fields(sent, offers, "default")


def fields(**sent: str) -> dict[str, list[str]]:
    return {name: [value] for name, value in sent.items()}


class Form(HTMLParser):
    """What a browser, and who hears it read out, finds in a form.

    `inputs` are the fields by name, of radio buttons the one that is chosen; `ids` are those of all of them.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inputs: dict[str, dict[str, str | None]] = {}
        self.ids: list[str | None] = []
        self.selected: dict[str, str | None] = {}
        self.labelled: set[str | None] = set()
        self.described: set[str | None] = set()
        self.texts: set[str | None] = set()
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.texts.add(found.get("id"))
        if tag == "label":
            self.labelled.add(found["for"])
        if tag in ("input", "select"):
            self._add(found)
        if tag == "option" and ("selected" in found or self._select not in self.selected):
            self.selected[self._select] = found["value"]

    def _add(self, found: dict[str, str | None]) -> None:
        self._select = found["name"] or ""
        self.ids.append(found["id"])
        self.described |= {found["aria-describedby"]} if "aria-describedby" in found else set()
        if found.get("type") != "radio" or "checked" in found:
            self.inputs[self._select] = found

    def values(self) -> dict[str, str]:
        """Return what is sent, one value each."""
        return {name: value for name, [value] in self.sent().items()}

    def sent(self) -> dict[str, list[str]]:
        boxes = {name for name, each in self.inputs.items() if each.get("type") == "checkbox" and "checked" not in each}
        values = {name: each["value"] for name, each in self.inputs.items() if "value" in each} | self.selected
        values = {name: value for name, value in values.items() if name not in boxes}
        return {name: [value or ""] for name, value in values.items()}
