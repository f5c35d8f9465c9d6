#!/usr/bin/env python3
"""Publishes messages and reads one back through the C library, with nothing but ctypes.

    publish.py TOPIC [COUNT]

The library is found by the loader, or where QUORATE_LIBRARY says.
"""

import ctypes
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_size_t, c_uint8, c_uint32
from ctypes import c_uint64, c_void_p


class Message(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("payload", c_char_p),
        ("payload_len", c_size_t),
        ("key", c_char_p),
        ("key_len", c_size_t),
        ("id", c_void_p),
        ("headers", c_void_p),
        ("timestamp_us", c_int64),
        ("headers_len", c_uint32),
        ("partition", c_uint32),
        ("flags", c_uint32),
        ("reserved", c_uint32),
    ]


class Delivery(ctypes.Structure):
    _fields_ = [
        ("user_data", c_void_p),
        ("offset", c_uint64),
        ("timestamp_us", c_int64),
        ("term", c_uint64),
        ("status", c_int32),
        ("partition", c_uint32),
        ("level", c_uint8),
        ("outcome", c_uint8),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 5),
    ]


def library():
    lib = ctypes.CDLL(os.environ.get("QUORATE_LIBRARY", "libquorate.so.0"))
    lib.quorate_last_error.restype = c_char_p
    lib.quorate_strerror.restype = c_char_p
    lib.quorate_connect.argtypes = [c_void_p, c_int32, POINTER(c_void_p)]
    lib.quorate_close.argtypes = [c_void_p, c_int32, c_void_p]
    lib.quorate_producer_open.argtypes = [c_void_p, c_char_p, c_void_p, POINTER(c_void_p)]
    lib.quorate_producer_send.argtypes = [c_void_p, POINTER(Message), c_void_p, c_int32]
    lib.quorate_producer_poll.argtypes = [c_void_p, POINTER(Delivery), c_size_t, c_int32]
    lib.quorate_producer_poll.restype = ctypes.c_ssize_t
    lib.quorate_producer_close.argtypes = [c_void_p, c_int32, c_void_p]
    lib.quorate_topic_describe.argtypes = [c_void_p, c_char_p, c_int32, POINTER(c_void_p)]
    lib.quorate_string_free.argtypes = [c_void_p]
    assert lib.quorate_abi_version() == 0, "this file was written for another libquorate"
    return lib


def check(lib, status):
    if status < 0:
        sys.exit("publish.py: " + lib.quorate_last_error().decode())
    return status


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: publish.py TOPIC [COUNT]")
    topic = sys.argv[1].encode()
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    lib = library()
    client, producer, json = c_void_p(), c_void_p(), c_void_p()
    check(lib, lib.quorate_connect(None, -1, byref(client)))
    check(lib, lib.quorate_producer_open(client, topic, None, byref(producer)))
    for number in range(1, count + 1):
        text = b"message %d" % number
        message = Message(struct_size=ctypes.sizeof(Message), payload=text, payload_len=len(text))
        check(lib, lib.quorate_producer_send(producer, byref(message), number, -1))
    reports = (Delivery * 64)()
    acked = set()
    while len(acked) < count:
        n = check(lib, lib.quorate_producer_poll(producer, reports, 64, 30000))
        for report in reports[:n]:
            if report.status != 0:
                sys.exit("publish.py: " + lib.quorate_strerror(report.status).decode())
            acked.add(report.user_data)
    check(lib, lib.quorate_topic_describe(client, topic, -1, byref(json)))
    described = ctypes.string_at(json).decode()
    lib.quorate_string_free(json)
    check(lib, lib.quorate_producer_close(producer, 1000, None))
    check(lib, lib.quorate_close(client, 1000, None))
    print("acked %d" % len(acked))
    print(described)


main()
