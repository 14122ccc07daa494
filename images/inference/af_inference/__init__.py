"""A session's models behind TFaaS' HTTP protocol, the Open Inference Protocol v2 and Triton's gRPC dialect of it."""
