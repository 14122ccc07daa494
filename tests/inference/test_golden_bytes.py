"""Requests as tritonclient 2.73.0 sent them, recorded on loopback, and what they are answered with, byte by byte."""

from __future__ import annotations

import socket

import grpc

from tests.support.inference.serving import TOKEN, Running

ROWS = bytes.fromhex("0000803f0000004000004040000080400000803f0000803f0000803f0000803f")
ANSWER = bytes.fromhex("0000a04100000041")
HEAD = (
    b'{"id":"7","inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","parameters":{"binary_data_size":32}}],'
    b'"parameters":{"binary_data_output":true}}'
)
REQUEST = (
    b"POST /v2/models/linear/infer HTTP/1.1\r\nUser-Agent: python/gevent-http-client-2.6.1\r\n"
    b"Authorization: Bearer %b\r\n"
    b"Inference-Header-Content-Length: 144\r\nHost: 127.0.0.1:36673\r\nContent-Length: 176\r\n\r\n"
)
ANSWER_HEAD = (
    b'{"model_name":"linear","model_version":"2","outputs":[{"name":"y","datatype":"FP32","shape":[2,1],'
    b'"parameters":{"binary_data_size":8}}],"id":"7"}'
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 153\r\n"
    b"inference-header-content-length: 145\r\n\r\n"
)
MESSAGE = bytes.fromhex("0a066c696e6561721a01372a0d0a01781204465033321a0202043a20") + ROWS
REPLY = bytes.fromhex("0a066c696e656172120132" + "1a0137" + "2a0d0a01791204465033321a020201" + "3208") + ANSWER


def test_over_http(running: Running) -> None:
    expected = RESPONSE + ANSWER_HEAD + ANSWER
    with socket.create_connection(("127.0.0.1", running.http), 30) as connection:
        for _ in range(2):  # the connection is kept
            connection.sendall(REQUEST % TOKEN.encode() + HEAD + ROWS)
            found = b""
            while len(found) < len(expected):
                part = connection.recv(4096)
                assert part, found
                found += part
            assert found == expected


def test_over_grpc(running: Running) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc}") as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        assert infer(MESSAGE, metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=30) == REPLY
