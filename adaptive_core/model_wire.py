"""The few parts of the protobuf wire format that are needed to look into an ONNX file without running or importing it.

A model is checked before onnxruntime sees it, because loading is already too late: a tensor with external data makes
onnxruntime open the file that it names. The reader is stricter than protobuf: whatever two parsers could read in two
ways is refused, so that what was checked is what onnxruntime gets. Field numbers are those of onnx.proto3; the encoding
is described at https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import collections.abc

from adaptive_core.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {FIXED64: 8, FIXED32: 4}

Value = int | memoryview
Field = tuple[int, Value, int]
"""Field number, value (a number for a varint, else the bytes) and the offset at which the field ends."""


def fields(message: memoryview) -> collections.abc.Iterator[Field]:
    """Iterate over the fields of an encoded message. Raises ModelError where it is not one."""
    position, size = 0, len(message)
    while position < size:
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        value: Value
        if not 0 < number < 1 << 29:
            raise ModelError(f"Not an ONNX file: field number {number} at byte {position} is outside 1..536870911.")
        if wire_type == VARINT:
            value, position = _varint(message, position)
        else:
            if wire_type == BYTES:
                length, position = _varint(message, position)
            elif wire_type in _FIXED_SIZE:
                length = _FIXED_SIZE[wire_type]
            else:
                raise ModelError(f"Not an ONNX file: wire type {wire_type} at byte {position}; expected 0, 1, 2 or 5.")
            end = position + length
            if end > size:
                raise ModelError(f"Not an ONNX file, or cut short: a field ends at byte {end} of {size}.")
            value, position = message[position:end], end
        yield number, value, position


def message(value: Value, what: str) -> memoryview:
    """The value as an embedded message or string; ``what`` names it in the ModelError if it is a number."""
    if isinstance(value, int):
        raise ModelError(f"Not an ONNX file: expected bytes for {what}, found a number.")
    return value


def text(value: Value, what: str) -> str:
    """The value as a string; ``what`` names it in the ModelError if it is none."""
    try:
        return str(message(value, what), "utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"Not an ONNX file: {what} is no UTF-8 text ({error.reason}).") from error


def string_pair(value: Value, what: str) -> tuple[str, str]:
    """The key and value of a StringStringEntryProto {1: key, 2: value}; ``what`` names it in the ModelError."""
    entry = {1: "", 2: ""}
    for number, content, _ in fields(message(value, what)):
        if number in entry:
            entry[number] = text(content, what)
    return entry[1], entry[2]


def encode_bytes(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(content)) + content


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ModelError(f"Not an ONNX file, or cut short: it ends inside a number at byte {position}.")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ModelError(f"Not an ONNX file: the number that ends at byte {position} is longer than 10 bytes.")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))
