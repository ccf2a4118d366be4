"""Q6_K and Q4_K blocks, which the `gguf` package can read but not write: the layouts of llama.cpp, scales by a small search.

`quantise(value, kind)` gives the raw bytes of a matrix `[rows, columns]`, the columns a multiple of 256, as an array `[rows, bytes]`.
"""

import gguf
import numpy as np
from gguf.quants import dequantize
from gguf.quants import quantize as quantize_plain

Kind = gguf.GGMLQuantizationType
BLOCK = 256


def symmetric(groups: np.ndarray, low: int, high: int) -> np.ndarray:
    """The scale of each group `[…, numbers]` that leaves the smallest squared error for integers from `low` to `high`."""
    top = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)
    best, least = np.zeros_like(top), np.full_like(top, np.inf)
    for steps in np.arange(low - 2, low + 2.01, 0.25):      # the largest number goes to `low`, or near it
        scale = top / steps
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
        whole = np.clip(np.round(groups * inverse), low, high)
        fitted = (groups * whole).sum(-1, keepdims=True) / np.maximum((whole * whole).sum(-1, keepdims=True), 1e-12)
        error = ((groups - fitted * whole) ** 2).sum(-1, keepdims=True)
        best, least = np.where(error < least, fitted, best), np.minimum(error, least)
    return best[..., 0]


def half(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float16).astype(np.float32)


def over(value: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.divide(value, scale, out=np.zeros_like(value), where=scale != 0)


def q6_k(blocks: np.ndarray) -> np.ndarray:
    groups = blocks.reshape(-1, 16, 16)
    scales = symmetric(groups, -32, 31)                                          # [blocks, 16]
    top = np.take_along_axis(scales, np.abs(scales).argmax(-1, keepdims=True), -1)
    delta = half(top / -128)
    small = np.clip(np.round(over(scales, np.broadcast_to(delta, scales.shape))), -128, 127)
    step = (delta * small)[..., None]
    whole = (np.clip(np.round(over(groups, np.broadcast_to(step, groups.shape))), -32, 31) + 32).astype(np.uint8)
    # 256 numbers are two halves of four runs of 32; the low four bits of runs 0 and 2, and of 1 and 3, share bytes.
    runs = whole.reshape(-1, 2, 4, 32)
    low = (runs & 15).reshape(-1, 2, 2, 64)
    ql = (low[:, :, 0] | (low[:, :, 1] << 4)).reshape(-1, 128)
    high = runs >> 4
    qh = (high[:, :, 0] | (high[:, :, 1] << 2) | (high[:, :, 2] << 4) | (high[:, :, 3] << 6)).reshape(-1, 64)
    return np.concatenate([ql, qh, small.astype(np.int8).view(np.uint8), delta.astype(np.float16).view(np.uint8)], axis=-1)


def q4_k(blocks: np.ndarray) -> np.ndarray:
    groups = blocks.reshape(-1, 8, 32)
    floor = np.minimum(groups.min(-1), 0)
    best, offset, least = (groups.max(-1) - floor) / 15, -floor, np.full(floor.shape, np.inf)
    for shrink in np.arange(0.80, 1.051, 0.025):            # of the range that the sixteen steps span
        scale, low = (groups.max(-1) - floor) / 15 * shrink, -floor * shrink
        for _ in range(2):                                  # the best line through the rounded numbers
            whole = np.clip(np.round(over(groups + low[..., None], np.broadcast_to(scale[..., None], groups.shape))), 0, 15)
            mean_q, mean_x = whole.mean(-1, keepdims=True), groups.mean(-1, keepdims=True)
            slope = over(((whole - mean_q) * (groups - mean_x)).sum(-1), ((whole - mean_q) ** 2).sum(-1))
            scale = np.maximum(slope, 0)
            low = np.maximum(scale * mean_q[..., 0] - mean_x[..., 0], 0)
        error = ((groups - (whole * scale[..., None] - low[..., None])) ** 2).sum(-1)
        better = error < least
        best, offset, least = np.where(better, scale, best), np.where(better, low, offset), np.where(better, error, least)
    delta, floor_delta = (half(part.max(-1, keepdims=True) / 63) for part in (best, offset))
    small, small_floor = (np.clip(np.round(over(part, np.broadcast_to(unit, part.shape))), 0, 63).astype(np.uint8) for part, unit in ((best, delta), (offset, floor_delta)))
    step, low = (delta * small)[..., None], (floor_delta * small_floor)[..., None]
    whole = np.clip(np.round(over(groups + low, np.broadcast_to(step, groups.shape))), 0, 15).astype(np.uint8)
    pairs = whole.reshape(-1, 4, 2, 32)
    qs = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    packed = np.concatenate([(small[:, :4] & 63) | ((small[:, 4:] >> 4) << 6), (small_floor[:, :4] & 63) | ((small_floor[:, 4:] >> 4) << 6),
                             (small[:, 4:] & 15) | ((small_floor[:, 4:] & 15) << 4)], axis=-1)
    return np.concatenate([delta.astype(np.float16).view(np.uint8), floor_delta.astype(np.float16).view(np.uint8), packed, qs], axis=-1)


def quantise(value: np.ndarray, kind: Kind) -> np.ndarray:
    if kind not in (Kind.Q6_K, Kind.Q4_K):
        return quantize_plain(value, kind)
    blocks = value.astype(np.float32).reshape(-1, BLOCK)
    return (q6_k if kind == Kind.Q6_K else q4_k)(blocks).reshape(value.shape[0], -1)


if __name__ == "__main__":
    sample = np.random.default_rng(20).normal(size=(64, 1024)).astype(np.float32)
    for kind in (Kind.Q8_0, Kind.Q6_K, Kind.Q4_K):
        error = dequantize(quantise(sample, kind), kind) - sample
        print(f"{kind.name}: relative error {np.sqrt((error ** 2).mean() / (sample ** 2).mean()):.4f}")
