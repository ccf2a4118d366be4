// The first positions of some blocks of the key-value cache, copied to other blocks in all layers.
//
// cache: bf16 [layers, num_blocks, 2, kv_heads, 16, head_dim]; copies: [grid.x, 3], each the block to copy from, the
// block to copy to and how many positions. Triples that name a block outside the cache, as PAD does, copy nothing.
// Grid: copies x layers x (2 * kv_heads): what one block of threads copies is one piece of memory, at most
// 16 * head_dim values. Moves each value twice. Unmeasured.
#include "rows.cuh"

KERNEL_BOUNDS(copy_blocks, 256)(bf16* cache, const uint32_t* copies, uint32_t num_blocks, uint32_t head_dim) {
    const uint32_t* copy = copies + 3 * static_cast<uint64_t>(blockIdx.x);
    const uint32_t from = copy[0], to = copy[1], positions = copy[2];
    if (from >= num_blocks || to >= num_blocks || positions > 16) {
        return;
    }
    const uint64_t layer = static_cast<uint64_t>(blockIdx.y) * num_blocks;
    const uint64_t head_values = 16 * head_dim;
    bf16* target = cache + ((layer + to) * gridDim.z + blockIdx.z) * head_values;
    const bf16* source = cache + ((layer + from) * gridDim.z + blockIdx.z) * head_values;
    copy_bytes(target, source, positions * head_dim * 2);
}
