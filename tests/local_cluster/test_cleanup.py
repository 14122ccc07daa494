import os
import subprocess
from pathlib import Path

import pytest

from local_cluster import cleanup
from local_cluster.settings import Paths

MOUNTINFO = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 21 0:30 / /state/run/containerd/a/rootfs rw - overlay overlay rw
41 21 0:31 / /state/kubelet/pods/1/volumes/token rw - tmpfs tmpfs rw
42 41 0:32 / /state/kubelet/pods/1/volumes/token/deeper rw - tmpfs tmpfs rw
43 21 0:33 / /state/kubelet/pods/with\\040space rw - tmpfs tmpfs rw
44 21 0:34 / /statewide rw - tmpfs tmpfs rw
45 41 0:35 / /state/kubelet/pods/1/volumes/token rw - tmpfs tmpfs rw
"""


def test_mounts_are_ours_only_and_the_deepest_come_first() -> None:
    found = cleanup.parse_mounts(MOUNTINFO, Path("/state"))
    assert Path("/statewide") not in found
    assert found[0] == Path("/state/kubelet/pods/1/volumes/token/deeper")
    assert found.count(Path("/state/kubelet/pods/1/volumes/token")) == 2
    assert Path("/state/kubelet/pods/with space") in found


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_busy_stacked_and_nested_mounts_go(tmp_path: Path) -> None:
    inner = tmp_path / "with space" / "inner"
    for point in (tmp_path / "with space", tmp_path / "with space", inner):
        point.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "test", point], check=True)
    with (inner / "busy").open("w"):
        assert len(cleanup.mounts_below(tmp_path)) == 3
        cleanup.unmount(cleanup.mounts_below(tmp_path))
        assert cleanup.mounts_below(tmp_path) == []
    cleanup.unmount([tmp_path])


def test_nothing_is_ours_where_no_cluster_was(tmp_path: Path) -> None:
    assert cleanup.mounts_below(tmp_path) == []
    assert not [found for found in cleanup.leftovers(Paths(tmp_path)) if "mounts" in found or "files" in found]
