"""What the serving process may carry."""

import subprocess
import sys


def test_the_server_package_imports_alone() -> None:
    program = (
        "import sys, af_inference; sys.exit(any(m.startswith('af_') and m != 'af_inference' for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
