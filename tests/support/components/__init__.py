"""Components that exist only in the tests, each a folder, put beside those of the operator."""
