// From the joint projection to what attention reads: norm of queries and keys by head, rotation, keys and values into
// the paged cache.
//
// qkv: f32 [rows, q_heads + 2 * kv_heads, head_dim], biases included; q_norm, k_norm: f32 [head_dim] or null;
// angles: f32 [num_positions, 2, head_dim / 2], cosines before sines; positions, slots: [rows];
// queries: bf16 [rows, q_heads, head_dim]; cache: what one layer holds, bf16 [blocks, 2, kv_heads, 16, head_dim].
// Rotation is half-split: value i turns with value i + head_dim / 2. A row whose slot is PAD writes no keys and values.
// A position that the table does not have, and a slot that the cache does not have, make NaN of the row's queries.
// A warp per row and head. Moves 6 bytes per value. Unmeasured.
#include "rows.cuh"

// Where a warp writes its head; null: nowhere.
DEVICE bf16* head_output(bf16* queries, bf16* cache, uint32_t slot, uint32_t head, uint32_t q_heads, uint32_t kv_heads,
                         uint32_t head_dim, uint32_t num_slots) {
    if (head < q_heads) {
        return queries + (static_cast<uint64_t>(blockIdx.x) * q_heads + head) * head_dim;
    }
    if (slot >= num_slots) {
        return nullptr;
    }
    // Of a block, all heads of keys come before all heads of values.
    const uint64_t part = static_cast<uint64_t>(slot / 16) * 2 * kv_heads + (head - q_heads);
    return cache + (part * 16 + slot % 16) * head_dim;
}

KERNEL_BOUNDS(rope_write, 256)(const float* qkv, const float* q_norm, const float* k_norm, const float* angles,
                               const uint32_t* positions, const uint32_t* slots, bf16* queries, bf16* cache,
                               uint32_t q_heads, uint32_t kv_heads, uint32_t head_dim, uint32_t num_positions,
                               uint32_t num_slots, float eps) {
    const uint32_t row = blockIdx.x, lane = threadIdx.x % 32, heads = q_heads + 2 * kv_heads;
    const uint32_t head = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32, pairs = head_dim / 2;
    if (head >= heads) {
        return;
    }
    const bool is_query = head < q_heads, is_value = head >= q_heads + kv_heads;
    const uint32_t slot = slots[row], position = positions[row];
    bf16* out = head_output(queries, cache, slot, head, q_heads, kv_heads, head_dim, num_slots);
    if (out == nullptr) {
        return;
    }
    const float* in = qkv + (static_cast<uint64_t>(row) * heads + head) * head_dim;

    const float* norm = is_value ? nullptr : is_query ? q_norm : k_norm;
    float scale = 1.0f;
    if (norm != nullptr) {
        float squares = 0.0f;
        for (uint32_t i = lane; i < head_dim; i += 32) {
            squares += in[i] * in[i];
        }
        scale = rsqrtf_exact(warp_sum(squares) / static_cast<float>(head_dim) + eps);
    }
    const bool is_wrong = position >= num_positions || (slot >= num_slots && slot != PAD);
    const float* cosines = angles + static_cast<uint64_t>(position) * 2 * pairs;
    for (uint32_t pair = lane; pair < pairs; pair += 32) {
        float low = in[pair], high = in[pair + pairs];
        if (norm != nullptr) {
            low *= scale * norm[pair];
            high *= scale * norm[pair + pairs];
        }
        if (!is_value) {
            const float cosine = is_wrong ? not_a_number() : cosines[pair];
            const float sine = is_wrong ? not_a_number() : cosines[pairs + pair];
            const float turned = low * cosine - high * sine;
            high = high * cosine + low * sine;
            low = turned;
        }
        out[pair] = to_bf16(low);
        out[pair + pairs] = to_bf16(high);
    }
}
