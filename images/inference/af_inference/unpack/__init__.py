"""From the body of an upload to files: a program that runs in a child, since archives are what attackers make first.

See :mod:`af_inference.sandbox`.
"""
