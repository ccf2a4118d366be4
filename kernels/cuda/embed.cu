// Rows of a table of token vectors: delta = table[token_ids], residual = 0, so that the first norm adds into an empty
// stream.
//
// token_ids: [rows]; delta, residual: f32 [rows, hidden]. The table [vocab, hidden] is bf16, fp8 with a scale per row,
// or int4 with a scale per 128 values. A row of PAD has no token and becomes zero; any other token that the table does
// not have becomes NaN.
// One block per row. Reads a row of the table, writes 8 bytes per value. Unmeasured.
#include "rows.cuh"

template <class READ>
DEVICE void embed_row(const uint32_t* token_ids, float* delta, float* residual, uint32_t hidden, uint32_t vocab,
                      READ read) {
    const uint64_t start = static_cast<uint64_t>(blockIdx.x) * hidden;
    const uint32_t token = token_ids[blockIdx.x];
    const float nothing = token == PAD ? 0.0f : not_a_number();
    for (uint32_t i = threadIdx.x; i < hidden; i += blockDim.x) {
        delta[start + i] = token < vocab ? read(token, i) : nothing;
        residual[start + i] = 0.0f;
    }
}

KERNEL_BOUNDS(embed_bf16, 256)(const uint8_t* table, const uint32_t* token_ids, float* delta, float* residual,
                               uint32_t hidden, uint32_t vocab, uint32_t row_bytes) {
    embed_row(token_ids, delta, residual, hidden, vocab, [=](uint64_t token, uint32_t i) {
        return to_float(reinterpret_cast<const bf16*>(table + token * row_bytes)[i]);
    });
}

KERNEL_BOUNDS(embed_fp8, 256)(const uint8_t* table, const float* scales, const uint32_t* token_ids, float* delta,
                              float* residual, uint32_t hidden, uint32_t vocab, uint32_t row_bytes) {
    embed_row(token_ids, delta, residual, hidden, vocab, [=](uint64_t token, uint32_t i) {
        return scales[token] * to_float(fp8{table[token * row_bytes + i]});
    });
}

KERNEL_BOUNDS(embed_int4, 256)(const uint8_t* table, const bf16* scales, const uint32_t* token_ids, float* delta,
                               float* residual, uint32_t hidden, uint32_t vocab, uint32_t row_bytes) {
    const uint32_t groups = (hidden + 127) / 128;
    embed_row(token_ids, delta, residual, hidden, vocab, [=](uint64_t token, uint32_t i) {
        const uint32_t nibble = (table[token * row_bytes + i / 2] >> (4 * (i % 2))) & 15;
        return to_float(scales[token * groups + i / 128]) * (static_cast<float>(nibble) - 8.0f);
    });
}
