"""A session's models behind TFaaS' HTTP protocol, the Open Inference Protocol v2 and Triton's gRPC dialect of it."""

import os

# onnxruntime tells its maker of each session, and keeps a database for it in the home directory, unless it is told
# before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
