"""The session file, --set, and the source files that travel in a session."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from af_client.errors import BadInput
from af_client.files import fill_source, read_session, set_name, set_value
from af_names import MAX_SOURCE_BYTES

HEAD = "apiVersion: analysisfacility.io/v1alpha1\nkind: AnalysisSession\n"
BODY: dict[str, Any] = {
    "metadata": {},
    "spec": {"dask": {"pools": [{"name": "cpu", "workers": {"max": 2}}]}, "image": "analysis", "gone": 1},
}


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("spec.dask.pools[0].workers.max=4", "spec dask pools 0 workers max", 4),
        ("spec.dask.pools[0].workers.min=0", "spec dask pools 0 workers min", 0),
        ("spec.dask.pools[1].name=gpu", "spec dask pools 1 name", "gpu"),
        ("spec.dask.pools[0]={name: x}", "spec dask pools 0", {"name": "x"}),
        ("spec.image=other", "spec image", "other"),
        ("spec.image=", "spec image", ""),
        ("spec.suspend=true", "spec suspend", True),
        ('spec.image="4"', "spec image", "4"),
        ("spec.image=2026-01-02", "spec image", "2026-01-02"),
        ("spec.image=a=b", "spec image", "a=b"),
        ("spec.run.command=[python, x.py]", "spec run command", ["python", "x.py"]),
        ("spec.run.command[0]=python", "spec run command 0", "python"),
        (r"spec.files.zmumu\.py=pass", "spec files zmumu.py", "pass"),
        ("metadata.name=x", "metadata name", "x"),
    ],
)
def test_set(assignment: str, path: str, value: object) -> None:
    body = copy.deepcopy(BODY)
    set_value(body, assignment)
    at: Any = body
    for step in path.split():
        at = at[int(step)] if isinstance(at, list) else at[step]
    assert at == value
    assert type(at) is type(value)


def test_set_null_removes() -> None:
    body = copy.deepcopy(BODY)
    set_value(body, "spec.gone=null")
    set_value(body, "spec.dask.pools[0]=null")
    assert "gone" not in body["spec"]
    assert body["spec"]["dask"]["pools"] == []


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("spec.image", "write path=value"),
        ("=4", "write path=value"),
        ("spec..image=4", "cannot read the path"),
        ("spec.image.=4", "cannot read the path"),
        (".spec=4", "cannot read the path"),
        ("spec.pools[x]=4", "cannot read the path"),
        ("spec.pools[-1]=4", "cannot read the path"),
        ("spec.dask.pools[5].name=x", "the list has 1 items: the next index is 1"),
        ("spec.dask.pools.name=x", "there is no mapping to take 'name' from"),
        ("spec.image[0]=x", "there is no list to take 0 from"),
        ("spec.image.x.y=1", "there is no mapping"),
        ("spec.image={a: ", "is no YAML value"),
    ],
)
def test_set_that_cannot_be_read(assignment: str, said: str) -> None:
    body = copy.deepcopy(BODY)
    with pytest.raises(BadInput) as caught:
        set_value(body, assignment)
    assert said in str(caught.value)
    assert assignment.partition("=")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds 0 objects"),
        (f"{HEAD}---\n{HEAD}", "holds 2 objects"),
        ("- a\n", "not a Kubernetes object"),
        ("hello", "not a Kubernetes object"),
        ("kind: AnalysisSession\n", "apiVersion is missing: write `apiVersion: analysisfacility.io/v1alpha1`"),
        (HEAD.replace("v1alpha1", "v2"), "apiVersion is 'analysisfacility.io/v2'"),
        (HEAD.replace("Session", "Profile"), "kind is 'AnalysisProfile'"),
        (f"{HEAD}spec: []\n", "spec must be a mapping"),
        (f"{HEAD}metadata: x\n", "metadata must be a mapping"),
        (f"{HEAD}spec:\n  a: 1\n  a: 2\n", "session.yaml:5: no valid YAML: 'a' stands here twice"),
        (f"{HEAD}spec: {{\n", "no valid YAML"),
        (f"{HEAD}spec:\n\tmode: x\n", "session.yaml:4: no valid YAML"),
        ("a: \x07\n", "no valid YAML"),
    ],
)
def test_wrong_session_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "session.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_session(path)
    assert said in str(caught.value)


def test_session_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        read_session(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not a text file"):
        read_session(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("meta", "option", "expected"),
    [
        ({"name": "a"}, None, {"name": "a"}),
        ({"generateName": "a-"}, None, {"generateName": "a-"}),
        ({"generateName": "a-"}, "b", {"name": "b"}),
        ({}, None, {"generateName": "my-run-2-"}),
    ],
)
def test_name(meta: dict[str, str], option: str | None, expected: dict[str, str]) -> None:
    body = {"metadata": meta}
    set_name(body, option, Path("My Run_2.yaml"))
    assert body["metadata"] == expected


def filled(folder: Path, command: list[str], *include: str, source: object = None) -> dict[str, str]:
    run: dict[str, Any] = {"command": command} | ({"source": source} if source else {})
    fill_source({"spec": {"run": run}}, folder, [Path(i) for i in include])
    return dict((run.get("source") or {}).get("files") or {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("zmumu.py", "cuts.json", "other.txt"):
        (tmp_path / name).write_text(f"# {name} é")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.py").write_text("deep")
    (tmp_path / "data.bin").write_bytes(b"\x00\x01\x02")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    (tmp_path / "sp ace.py").write_text("")
    (tmp_path / "big.txt").write_text("x" * (MAX_SOURCE_BYTES + 1))
    (tmp_path / "half1.txt").write_text("x" * (MAX_SOURCE_BYTES // 2 + 1))
    (tmp_path / "half2.txt").write_text("é" * (MAX_SOURCE_BYTES // 4))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "include", "expected"),
    [
        (["python", "zmumu.py"], [], ["zmumu.py"]),
        (["python", "./zmumu.py", "--cuts=cuts.json"], [], ["cuts.json", "zmumu.py"]),
        (["python", "-m", "pytest"], [], []),
        (["python", "zmumu.py"], ["other.txt"], ["other.txt", "zmumu.py"]),
        (["python", "zmumu.py"], ["sub/deep.py"], ["deep.py", "zmumu.py"]),
        (["python", "/etc/passwd"], [], []),
        (["ls", "sub"], [], []),
        (["python", "-c", "x" * 5000], [], []),
        (["python", ""], [], []),
    ],
)
def test_files_that_travel(folder: Path, command: list[str], include: list[str], expected: list[str]) -> None:
    found = filled(folder, command, *include)
    assert sorted(found) == expected
    for name in {"zmumu.py", "cuts.json"} & set(found):
        assert found[name] == f"# {name} é"


def test_files_that_are_in_the_session_stay(folder: Path) -> None:
    found = filled(folder, ["python", "zmumu.py", "cuts.json"], source={"files": {"zmumu.py": "mine"}})
    assert found == {"zmumu.py": "mine", "cuts.json": "# cuts.json é"}


def test_a_config_map_is_left_alone(folder: Path) -> None:
    assert filled(folder, ["python", "zmumu.py"], source={"configMap": "code"}) == {}


@pytest.mark.parametrize(
    ("command", "include", "said"),
    [
        (["cat", "data.bin"], [], "binary file"),
        (["cat", "latin"], [], "binary file"),
        (["cat", "sub/deep.py"], [], "source files are flat"),
        (["cat", "sp ace.py"], [], "cannot be a source file's name"),
        (["cat", "big.txt"], [], "256 KiB"),
        (["cat", "half1.txt", "half2.txt"], [], "more than 256 KiB (the largest is half1.txt"),
        (["true"], ["nothing.py"], "--include nothing.py: no such file"),
        (["true"], ["sub"], "--include sub: that is a directory"),
    ],
)
def test_files_that_cannot_travel(folder: Path, command: list[str], include: list[str], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        filled(folder, command, *include)
    assert said in str(caught.value)


def test_too_many_files(folder: Path) -> None:
    names = [f"f{i}.txt" for i in range(65)]
    for name in names:
        (folder / name).write_text("x")
    with pytest.raises(BadInput, match="65 source files, more than 64"):
        filled(folder, ["cat", *names])


def test_exactly_256_kib_travel(folder: Path) -> None:
    (folder / "full.txt").write_text("x" * MAX_SOURCE_BYTES)
    assert len(filled(folder, ["cat", "full.txt"])["full.txt"]) == MAX_SOURCE_BYTES


def test_two_included_files_of_one_name(folder: Path) -> None:
    (folder / "sub" / "zmumu.py").write_text("")
    with pytest.raises(BadInput, match="two files are called"):
        filled(folder, ["true"], "sub/zmumu.py", str(folder / "zmumu.py"))


def test_include_needs_a_run(folder: Path) -> None:
    with pytest.raises(BadInput, match="nowhere to go"):
        fill_source({"spec": {}}, folder, [Path("zmumu.py")])
