"""Images are rebuilt when, and only when, their inputs changed."""

import ast
import http.server
import json
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console

from local_cluster import debian, images
from local_cluster.errors import ClusterError
from local_cluster.images import PUBLISHED, Image, ensure_images, manifest_digest
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT

ALL = sorted(path.parent.name for path in CHECKOUT.glob("images/*/Containerfile"))
# A recipe for facilities that have GPUs: three gigabytes that nothing here could run.
NOT_BUILT = "inference_gpu"
BUILT = [name for name in ALL if name != NOT_BUILT]
RECIPES = [*sorted(CHECKOUT.glob("images/*/Containerfile")), CHECKOUT / "examples/z2jh/Containerfile"]
ROOMS = ("af_client.cli", "af_client.convert", "af_client.hub", "af_client.pod")
DOORS = {f"af_client/{name}.py" for name in ("__main__", "here", "model_files", "spawner")}
LOCKS = sorted([*CHECKOUT.glob("images/*/requirements.lock"), CHECKOUT / "requirements/operator.lock"])
DIGEST = "sha256:" + "0" * 64


def _of_image(path: Path) -> str:
    return str(path.parent.relative_to(CHECKOUT))


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(quiet=True))


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, recipe in {
        "bottom": "FROM docker.io/library/debian:bookworm-slim\nCOPY requirements/a.lock /opt/\n",
        "top": "FROM ${BOTTOM}\nCOPY images/top/conf package /opt/\nCOPY --from=x /a /b\nCOPY flat/*.py /c\n",
    }.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "Containerfile").write_text(recipe)
    made = ("requirements/a.lock", "images/top/conf", "package/a.py", "package/deep/b.py", "other.py")
    for path in (*made, "flat/a.py", "flat/room/b.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


def test_parents_and_sources_are_read_from_the_recipe(checkout: Path) -> None:
    top = Image("top", checkout)
    assert top.parents() == [Image("bottom", checkout)]
    assert top.sources() == [checkout / "images/top/conf", checkout / "package", checkout / "flat/a.py"]


@pytest.mark.parametrize(
    "path",
    [
        "images/top/conf",
        "package/a.py",
        "package/deep/b.py",
        "flat/a.py",
        "images/top/Containerfile",
        "images/bottom/Containerfile",
        "requirements/a.lock",
    ],
)
def test_an_edit_of_an_input_changes_the_key(checkout: Path, path: str) -> None:
    before = Image("top", checkout).key("debian")
    with (checkout / path).open("a") as file:
        file.write("\n# edited\n")
    assert Image("top", checkout).key("debian") != before


def test_a_new_file_a_renamed_file_and_another_debian_change_the_key(checkout: Path) -> None:
    top = Image("top", checkout)
    keys = [top.key("debian"), top.key("another debian")]
    (checkout / "package/c.py").write_text("new")
    keys.append(top.key("debian"))
    (checkout / "package/c.py").rename(checkout / "package/d.py")
    keys.append(top.key("debian"))
    assert len(set(keys)) == 4


def test_what_is_not_copied_changes_no_key(checkout: Path) -> None:
    before = {name: Image(name, checkout).key("debian") for name in ("bottom", "top")}
    (checkout / "other.py").write_text("edited")
    (checkout / "flat/room/b.py").write_text("edited")
    (checkout / "package/__pycache__").mkdir()
    (checkout / "package/__pycache__/a.pyc").write_text("bytecode")
    (checkout / "package/a.py").touch()
    assert {name: Image(name, checkout).key("debian") for name in ("bottom", "top")} == before
    (checkout / "package/a.py").write_text("edited")
    assert Image("bottom", checkout).key("debian") == before["bottom"]


def test_a_key_says_nothing_about_where_the_checkout_is(checkout: Path) -> None:
    moved = checkout.rename(checkout.with_name("moved"))
    assert Image("top", moved).key("debian") == Image("top", moved.rename(checkout)).key("debian")


# --- building and pushing -------------------------------------------------------------------------------------------


class FakeEngine:
    """An engine that builds nothing, and a registry in a dict."""

    base = "debian"
    registry = "nowhere"

    def __init__(self) -> None:
        self.storage: set[str] = set()
        self.pushed: set[tuple[str, str]] = set()
        self.built: list[str] = []
        self.loaded: list[str] = []
        self.loses = False

    def has(self, reference: str) -> bool:
        return reference in self.storage

    def build(self, progress: Progress, image: Image) -> None:
        assert all(parent.reference(self.base) in self.storage for parent in image.parents())
        self.built.append(image.name)
        self.storage.add(image.reference(self.base))

    def push(self, progress: Progress, image: Image) -> None:
        assert image.reference(self.base) in self.storage
        if not self.loses:
            self.pushed.add((image.name, image.key(self.base)))

    def load(self, progress: Progress, references: Iterable[str]) -> None:
        self.loaded = list(references)

    def digest(self, registry: str, name: str, tag: str) -> str | None:
        return DIGEST if (name, tag) in self.pushed else None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr(images, "manifest_digest", engine.digest)
    return engine


def test_everything_is_built_once_parents_first(engine: FakeEngine, progress: Progress, tmp_path: Path) -> None:
    references = ensure_images(progress, engine, tmp_path / ".local/images.json")
    assert sorted(engine.built) == BUILT
    assert engine.built.index("python") < engine.built.index("analysis")
    assert engine.built.index("xcache") < engine.built.index("origin")
    assert references == {name: f"localhost:5000/{name}@{DIGEST}" for name in PUBLISHED}
    assert engine.loaded == list(references.values())
    assert json.loads((tmp_path / ".local/images.json").read_text()) == references

    assert ensure_images(progress, engine, tmp_path / ".local/images.json") == references
    assert sorted(engine.built) == BUILT


def test_an_empty_registry_is_filled_from_storage(engine: FakeEngine, progress: Progress, tmp_path: Path) -> None:
    ensure_images(progress, engine, tmp_path / "images.json")
    engine.pushed.clear()
    engine.built.clear()
    ensure_images(progress, engine, tmp_path / "images.json")
    assert engine.built == []
    assert {name for name, _ in engine.pushed} == set(PUBLISHED)


def test_a_full_registry_needs_no_storage(engine: FakeEngine, progress: Progress, tmp_path: Path) -> None:
    ensure_images(progress, engine, tmp_path / "images.json")
    engine.storage.clear()
    engine.built.clear()
    ensure_images(progress, engine, tmp_path / "images.json")
    assert engine.built == []


def test_a_push_that_leaves_nothing_is_an_error(engine: FakeEngine, progress: Progress, tmp_path: Path) -> None:
    engine.loses = True
    with pytest.raises(ClusterError, match="is its disk full"):
        ensure_images(progress, engine, tmp_path / "images.json")
    assert not (tmp_path / "images.json").exists()


def test_an_edit_during_a_build_goes_into_the_next_one(
    engine: FakeEngine, progress: Progress, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "PUBLISHED", ("top",))
    monkeypatch.setattr(images, "Image", lambda name, where=checkout: Image(name, where))
    before = Image("top", checkout).key(engine.base)
    build = engine.build

    def edit_and_build(progress: Progress, image: Image) -> None:
        (checkout / "package/a.py").write_text("edited while building")
        assert (image.checkout / "package/a.py").read_text() == "package/a.py"
        build(progress, image)

    monkeypatch.setattr(engine, "build", edit_and_build)
    ensure_images(progress, engine, checkout / "images.json")
    assert engine.pushed == {("top", before)}
    assert Image("top", checkout).key(engine.base) != before


# --- the registry ---------------------------------------------------------------------------------------------------


class Registry(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        assert "oci.image.manifest" in self.headers["Accept"]
        status = {"/v2/a/manifests/there": 200, "/v2/a/manifests/broken": 500}.get(self.path, 404)
        self.send_response(status)
        if status == 200:
            self.send_header("Docker-Content-Digest", DIGEST)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_registry_is_asked_for_a_digest(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert manifest_digest(registry, "a", "there") == DIGEST
    assert manifest_digest(registry, "a", "missing") is None
    with pytest.raises(ClusterError, match="answers 500"):
        manifest_digest(registry, "a", "broken")


def test_no_registry_names_the_next_step() -> None:
    with pytest.raises(ClusterError, match="make cluster"):
        manifest_digest("127.0.0.1:1", "a", "b")


# --- the recipes of this project ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_recipe_stands_on_what_is_there(name: str) -> None:
    image = Image(name)
    assert [source for source in image.sources() if not source.exists()] == []
    assert {parent.name for parent in image.parents()} <= set(ALL)
    recipe = image.containerfile.read_text()
    for base in re.findall(r"^FROM (\S+)", recipe, re.MULTILINE):
        assert base.startswith("${") or base == "docker.io/library/debian:bookworm-slim"


@pytest.mark.parametrize("name", PUBLISHED)
def test_image_runs_under_an_init_and_not_as_root(name: str) -> None:
    recipes = [image.containerfile.read_text() for image in Image(name).lineage()]
    users = next(found for recipe in recipes if (found := re.findall("^USER (.+)", recipe, re.MULTILINE)))
    assert users[-1] == "1000:1000"
    assert any('ENTRYPOINT ["tini", "-g", "--"]' in recipe for recipe in recipes)


@pytest.mark.parametrize("name", ["operator", "hub", "inference", "inference_gpu"])
def test_an_edit_of_our_source_keeps_the_layer_of_dependencies(name: str) -> None:
    recipe = Image(name).containerfile.read_text()
    assert recipe.index("--require-hashes") < recipe.index("pyproject.toml")


@pytest.mark.parametrize("name", ["analysis", "spark", "root", "ml"])
def test_an_edit_of_our_source_makes_no_base_anew(name: str) -> None:
    bases = [image for image in Image(name).lineage() if image.name.endswith("_base")]
    assert bases
    assert [file for base in bases for file in base.files() if (CHECKOUT / "images") not in file.parents] == []
    assert "programs" in {parent.name for parent in Image(name).parents()}


def test_an_edit_of_the_inference_server_installs_no_tensorflow_anew() -> None:
    server = CHECKOUT / "images/inference/af_inference"
    assert server / "__init__.py" in Image("inference").files()
    assert [file for file in Image("inference_convert_base").files() if server in file.parents] == []


@pytest.mark.parametrize("recipe", RECIPES, ids=_of_image)
def test_what_a_package_of_ours_imports_is_copied_with_it(recipe: Path) -> None:
    copied = {path.relative_to(CHECKOUT) for path in _copied(recipe) if path.suffix == ".py"}
    lacking = {f"{path}: {module}" for path in copied for module in _imported(path) if not _is_in(copied, module)}
    assert lacking == set()


def _copied(recipe: Path) -> list[Path]:
    sources = re.findall(r"^COPY (af_\S+) ", recipe.read_text(), re.MULTILINE)
    paths = [path for source in sources for path in CHECKOUT.glob(source)]
    return [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]


def _imported(path: Path) -> set[str]:
    """Return the modules of ours that a file imports; not those of a door to a room, which an image may lack."""
    found = re.findall(r"^\s*(?:from|import) (af_[\w.]+)", (CHECKOUT / path).read_text(), re.MULTILINE)
    return {name for name in found if str(path) not in DOORS or not name.startswith(ROOMS)}


def _is_in(copied: set[Path], module: str) -> bool:
    path = Path(*module.split("."))
    return bool({path.with_suffix(".py"), path / "__init__.py"} & copied)


@pytest.mark.parametrize(("name", "rooms"), [("operator", set()), ("programs", {"pod", "convert"}), ("hub", {"hub"})])
def test_an_image_has_the_clients_rooms_that_run_in_it_and_no_other(name: str, rooms: set[str]) -> None:
    inside = [path.relative_to(CHECKOUT / "af_client") for path in Image(name).files() if "af_client" in path.parts]
    assert {path.parts[0] for path in inside if len(path.parts) > 1} == rooms


def test_the_image_of_sessions_has_what_the_sdk_imports() -> None:
    """Also what it imports only when it is needed, which no other test of the image would see."""
    sdk = [path for path in CHECKOUT.glob("af_client/*.py") if str(path.relative_to(CHECKOUT)) not in DOORS]
    nodes = [node for path in sdk for node in ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    ours = {"af_client", "af_kube", "af_names", *sys.stdlib_module_names}
    needed = {name.partition(".")[0] for name in names} - ours
    lock = (CHECKOUT / "images/analysis/requirements.lock").read_text()
    locked = set(re.findall(r"^(\S+)==", lock, re.MULTILINE))
    installed_by = packages_distributions()
    assert {"websockets", "distributed"} <= needed
    assert {name for name in needed if not {canonicalize_name(each) for each in installed_by[name]} & locked} == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_locks_pin_every_package_by_hash_and_name_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    requirements = re.findall(r"^(?!\s|#).*$", text.replace("\\\n", ""), re.MULTILINE)
    assert [line for line in requirements if line and not re.match(r"\S+==\S+.*--hash=sha256:", line)] == []


def test_the_proxys_lock_pins_every_package_by_hash_and_names_no_registry() -> None:
    text = (CHECKOUT / "images/hub/package-lock.json").read_text()
    assert '"resolved"' not in text
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    assert packages
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    wanted = json.loads((CHECKOUT / "images/hub/package.json").read_text())["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if (lock.parent / "requirements.in").exists()], ids=_of_image)
def test_lock_has_what_was_asked_for(lock: Path) -> None:
    lines = lock.with_name("requirements.in").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line[:1] != "#"]
    locked = dict(re.findall(r"^(\S+)==(\S+)", lock.read_text(), re.MULTILINE))
    assert wanted
    assert {each.name for each in wanted} <= locked.keys()
    assert [str(each) for each in wanted if not each.specifier.contains(locked[each.name])] == []


# --- Debian ---------------------------------------------------------------------------------------------------------


def test_only_the_sources_of_debian_are_used(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example bookworm main\n"
        "deb http://one.example/debian bookworm main contrib\n"
        "deb-src http://one.example/debian bookworm main\n"
        "deb http://one.example/debian trixie main\n"
    )
    (tmp_path / "sources.list.d/vendor.list").write_text("deb https://vendor.example cloud-sdk-bookworm main\n")
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://two.example/debian\n"
        "Suites: bookworm\n bookworm-updates\nComponents: main non-free\nSigned-By: /usr/share/keyrings/d.gpg\n"
        "\n"
        "Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n"
        "\n"
        "Types: deb\nURIs: https://node.example\nSuites: nodistro\nComponents: main\n"
    )
    assert debian.sources(tmp_path) == [
        "deb [signed-by=/usr/share/keyrings/d.gpg] http://two.example/debian bookworm main",
        "deb [signed-by=/usr/share/keyrings/d.gpg] http://two.example/debian bookworm-updates main",
        "deb http://one.example/debian bookworm main",
    ]


def test_no_source_names_the_next_step(tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "sources", list)
    with pytest.raises(ClusterError, match="add one"):
        debian.build(progress, tmp_path / "debian.tar", tmp_path / "log")
