"""Write the model ``dimuon``: the invariant mass of two muons, taken as massless; a model whose answers are known."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnx import checker, parser

GRAPH = """
<ir_version: 9, opset_import: ["": 18], doc_string: "m^2 = 2 pt1 pt2 (cosh(eta1 - eta2) - cos(phi1 - phi2))">
dimuon (float[N, 6] muons) => (float[N, 1] mass) {
    pt1, eta1, phi1, pt2, eta2, phi2 = Split <axis = 1, num_outputs = 6> (muons)
    deta = Sub (eta1, eta2)
    dphi = Sub (phi1, phi2)
    cosh = Cosh (deta)
    cos = Cos (dphi)
    angle = Sub (cosh, cos)
    momenta = Mul (pt1, pt2)
    half = Mul (momenta, angle)
    square = Add (half, half)
    mass = Sqrt (square)
}
"""


def main(file: Path) -> None:
    """Write the model to a file; what is above it in its folder is made."""
    model = parser.parse_model(GRAPH)
    checker.check_model(model, full_check=True)
    file.parent.mkdir(parents=True)
    onnx.save(model, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
