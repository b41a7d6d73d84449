"""Files that are no good pictures, made when a test asks for them."""

import io
import struct
import zlib

import numpy as np
import PIL.Image


def huge_png(side_px: int) -> bytes:
    """A valid black grey PNG of `side_px` squared: 400 million pixels are a megabyte of file, written at once.

    Deflate blocks that end with a full flush can be repeated; the Adler-32 of n zero bytes is (n mod 65521, 1).
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row_bytes = 1 + side_px  # the filter's number first
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    row = packer.compress(bytes(row_bytes)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = struct.pack(">I", (row_bytes * side_px % 65521) << 16 | 1)
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    pixels = b"\x78\x9c" + row * side_px + packer.flush() + end
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_cut_in_half() -> bytes:
    """The first half of a JPEG of noise."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG of 64 x 64 whose last scan stands in it so often that it has `scans` of them."""
    buffer = io.BytesIO()
    PIL.Image.new("L", (64, 64), 90).save(buffer, "JPEG", progressive=True)
    head, *found = buffer.getvalue().removesuffix(b"\xff\xd9").split(b"\xff\xda")
    return b"\xff\xda".join([head, *found, *[found[-1]] * (scans - len(found))]) + b"\xff\xd9"


def one_pixel() -> bytes:
    """A whole PNG of 1 x 1."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()
